"""A model made ready to learn on this machine: its loss with it, products in the right precision, compiled where that pays.

`Trainee` is one module from token ids to loss, which is what wrappers (compilers, many processes) want to see.
Proof: tests/training/test_trainee.py. Gains: `python benchmarks/train.py`.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from llm_scratch.config import MachineConfig, ModelConfig
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.hardware.matmul_backend import select_matmul_backend
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.head_loss import summed_loss
from llm_scratch.training.precision import Precision, choose_precision

COMPILING = 60.0  # seconds that torch.compile takes for a GPT, about
SAVED = {"cpu": 0.0, "cuda": 0.3}  # share of a step that it saves; on CPUs it made steps 0 to 20 % longer
USED = 0.4  # share of the matrix rate that an ordinary step reaches


PLAIN = Precision("float32", "as asked")


class Trainee(nn.Module):
    """A model and its loss as one: ids and targets [B, T] in, nats summed over all asked targets out. Dropout draws the fast way."""

    def __init__(self, model: nn.Module, precision: Precision = PLAIN, why: str = "float32") -> None:
        super().__init__()
        self.model, self.precision, self.why = model, precision, why
        for part in model.modules():
            if isinstance(part, Dropout):
                part.fast = True

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss; a scalar."""
        with self.precision.products(inputs.device):
            return summed_loss(self.model, inputs, targets)


def make_ready(model: nn.Module, machine: MachineConfig, device: torch.device, work: float = 0.0) -> Trainee:
    """Make a model ready to learn here; `.why` of what comes back says what was chosen.

    Args:
        model: on its device.
        work: floating-point operations of the whole run, by which compiling is weighed.
    """
    cfg = ModelConfig.of(model.cfg) if hasattr(model, "cfg") else ModelConfig()  # type: ignore[arg-type]
    library = f", products by {select_matmul_backend()}" if device.type == "cpu" else ""
    precision = choose_precision(machine.precision, cfg, device)
    dtype = torch.bfloat16 if precision.name == "bfloat16" else torch.float32
    compiled, reason = compile_pays(machine.compile, work, device, dtype)
    if compiled and (problem := compile_problem(device)):
        compiled, reason = False, f"torch.compile does not work here ({problem})"
    if compiled and hasattr(model, "hidden"):
        model.hidden = torch.compile(model.hidden)  # type: ignore[assignment, arg-type]
    if device.type == "cpu" and cfg.tie_embeddings and hasattr(model, "tok_emb"):
        model.tok_emb.sparse = True  # type: ignore[union-attr]  # its rows are added into the head's gradient, without a table of zeros
    return Trainee(model, precision, f"{precision.name}: {precision.why}{library}; {'' if compiled else 'not '}compiled: {reason}")


def compile_pays(wanted: str, work: float, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[bool, str]:
    """Whether to compile, and the arithmetic in words. `wanted` and `work` as in `make_ready`; products are of `dtype`."""
    if wanted != "auto":
        return wanted == "yes", "as asked"
    share = SAVED.get(device.type, 0.0)
    if not share:
        return False, f"it saves nothing on {device.type}"
    saved = share * work / (USED * matmul_flops(device, dtype))
    return saved > COMPILING, f"it would save about {saved:.0f} s of this run and take {COMPILING:.0f} s"


def compile_problem(device: torch.device) -> str:
    """Why torch.compile does not work on a device, such as for lack of a C++ compiler; "" if it does.

    Tried on a small function, which takes some seconds. Its size is drawn at random, as the compiler keeps what it has compiled.
    """
    size = 9 + int.from_bytes(os.urandom(2), "little") % 4096
    x = torch.ones(size, device=device, requires_grad=True)
    try:
        torch.compile(_compiled_for_trial)(x).sum().backward()
    except Exception as e:  # torch's compilers have no common kind of error
        return f"{type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else 'no reason given'}"
    return ""


def _compiled_for_trial(x: Tensor) -> Tensor:
    return (x * x).relu() + x.mean()
