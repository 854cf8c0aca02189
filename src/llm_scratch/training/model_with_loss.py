"""A model made ready to learn on this machine: its loss with it, products in the right precision, compiled where that pays.

`Trainee` is one module from token ids to loss, which is what wrappers (compilers, many processes) want to see.
What was chosen by a trial, and changes bits, is stored in checkpoints (`Trainee.choices`) and taken
from there when a run resumes (`Trainee.restore_choices`): the trial of another day may differ.
Tests: tests/training/test_model_with_loss.py. Gains: `python benchmarks/train.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.config import ModelConfig, SystemConfig
from llm_scratch.errors import describe_error
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.hardware.linear_kernel import faster_products, has_onednn_linear
from llm_scratch.hardware.matmul_backend import fastest_matmul_backend, use_matmul_backend
from llm_scratch.model.chunked_loss import total_loss
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fast_linear import fast_product, large_shapes, set_products
from llm_scratch.model.layers import GELU
from llm_scratch.training.precision import Precision, choose_precision, precision_of_run

COMPILE_SECONDS = 60.0  # seconds that torch.compile takes for a GPT, about
COMPILE_SAVING = {"cpu": 0.0, "cuda": 0.3}  # share of a step that it saves; on CPUs it made steps 0 to 20 % longer
TYPICAL_MFU = 0.4  # share of the matrix rate that an ordinary step reaches
AS_STORED = "as in the run's checkpoint"


FLOAT32 = Precision("float32", "as asked")


class ModelWithLoss(nn.Module):
    """A model and its loss as one: ids and targets [B, T] in, nats summed over all asked targets out. Dropout draws the fast way.

    Attributes:
        precision: of the matrix products.
        matmul_backend: the library that multiplies on a CPU; "" on other devices.
        onednn_products: of linear layers, done by oneDNN's own operator (`set_products`).
        compiled: whether the model's trunk goes through torch.compile.
        compile_reason: why, or why not.
    """

    def __init__(self, model: nn.Module, precision: Precision = FLOAT32) -> None:
        super().__init__()
        self.model, self.precision = model, precision
        self.matmul_backend = ""
        self.onednn_products: tuple[str, ...] = ()
        self.compiled = False
        self.compile_reason = "not requested"
        for part in model.modules():
            if isinstance(part, (Dropout, GELU)):
                part.fast = True

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The summed loss; a scalar."""
        with self.precision.products(inputs.device):
            product = fast_product if self.onednn_products else F.linear
            return total_loss(self.model, inputs, targets, product)

    @property
    def why(self) -> str:
        """What was chosen and why, in one line."""
        backend = f", products by {self.matmul_backend}" if self.matmul_backend else ""
        if self.onednn_products:
            backend += f" ({' and '.join(self.onednn_products)} of linear layers by oneDNN)"
        compiled = f"{'' if self.compiled else 'not '}compiled: {self.compile_reason}"
        return f"{self.precision.name}: {self.precision.why}{backend}; {compiled}"

    def set_compiled(self, compiled: bool, reason: str) -> None:
        """Compile the model's trunk at its next call, or undo that."""
        trunk = self.model.__dict__
        if compiled and not self.compiled and hasattr(self.model, "hidden"):
            trunk["hidden"] = torch.compile(self.model.hidden)  # type: ignore[arg-type]
        elif not compiled:
            trunk.pop("hidden", None)  # the method of the class is behind it
        self.compiled, self.compile_reason = compiled, reason

    def set_products(self, products: Sequence[str]) -> None:
        """Let oneDNN do these products of the model's large linear layers, and no others."""
        self.onednn_products = tuple(products)
        set_products(self.model, products)

    def choices(self) -> dict[str, Any]:
        """What changes bits and was chosen here: JSON for a checkpoint."""
        return {
            "precision": self.precision.name,
            "matmul_backend": self.matmul_backend,
            "onednn_products": list(self.onednn_products),
            "compiled": self.compiled,
        }

    def restore_choices(self, stored: Mapping[str, Any], machine: SystemConfig, device: torch.device) -> None:
        """Take the choices of a run's checkpoint instead of those of a new trial.

        An explicit setting of `machine` wins. A choice that is missing (an older checkpoint) or
        impossible here stays as it was made here. A run that was on another kind of device brings
        its precision alone, as sums round differently anyway.

        Args:
            stored: the checkpoint's state, with what `choices` returned.
            machine: the settings of the resumed run.
            device: what it computes on.
        """
        if machine.precision == "auto" and "precision" in stored:
            self.precision = precision_of_run(stored["precision"], device)
        if stored.get("device", device.type) != device.type:
            return
        if self.matmul_backend and stored.get("matmul_backend"):
            self.matmul_backend = use_matmul_backend(stored["matmul_backend"])
        if device.type == "cpu" and "onednn_products" in stored:
            self.set_products(stored["onednn_products"] if has_onednn_linear() else ())
        if machine.compile == "auto" and "compiled" in stored:
            compiled = stored["compiled"]
            if compiled == self.compiled or not compiled or not compile_problem(device):
                self.set_compiled(compiled, AS_STORED)
            else:
                self.compile_reason = "the compiler does not work here"


def prepare_for_training(model: nn.Module, machine: SystemConfig, device: torch.device, work: float = 0.0) -> ModelWithLoss:
    """Make a model ready to learn here; `.why` of what comes back says what was chosen.

    Args:
        model: on its device.
        work: floating-point operations of the whole run, by which compiling is weighed.
    """
    cfg = ModelConfig.of(model.cfg) if hasattr(model, "cfg") else ModelConfig()  # type: ignore[arg-type]
    on_cpu = device.type == "cpu"
    backend = use_matmul_backend(fastest_matmul_backend()) if on_cpu else ""
    precision = choose_precision(machine.precision, cfg, device)
    dtype = torch.bfloat16 if precision.name == "bfloat16" else torch.float32
    trainee = ModelWithLoss(model, precision)
    trainee.matmul_backend = backend
    if on_cpu and precision.name == "float32":
        trainee.set_products(faster_products(large_shapes(model), backend))
    compiled, reason = should_compile(machine.compile, work, device, dtype)
    if compiled and (problem := compile_problem(device)):
        compiled, reason = False, f"torch.compile does not work here ({problem})"
    trainee.set_compiled(compiled, reason)
    if on_cpu and cfg.tie_embeddings and hasattr(model, "tok_emb"):
        model.tok_emb.sparse = True  # type: ignore[union-attr]  # its rows are added into the head's gradient, without a table of zeros
    return trainee


def should_compile(wanted: str, work: float, device: torch.device, dtype: torch.dtype = torch.float32) -> tuple[bool, str]:
    """Whether to compile, and the arithmetic in words. `wanted` and `work` as in `make_ready`; products are of `dtype`."""
    if wanted != "auto":
        return wanted == "yes", "as asked"
    share = COMPILE_SAVING.get(device.type, 0.0)
    if not share:
        return False, f"it saves nothing on {device.type}"
    saved = share * work / (TYPICAL_MFU * matmul_flops(device, dtype))
    return saved > COMPILE_SECONDS, f"it would save about {saved:.0f} s of this run and take {COMPILE_SECONDS:.0f} s"


def compile_problem(device: torch.device) -> str:
    """Why torch.compile does not work on a device, such as for lack of a C++ compiler; "" if it does.

    Tried on a small function, which takes some seconds. Its size is drawn at random, as the compiler keeps what it has compiled.
    """
    size = 9 + int.from_bytes(os.urandom(2), "little") % 4096
    x = torch.ones(size, device=device, requires_grad=True)
    try:
        torch.compile(_compiled_for_trial)(x).sum().backward()
    except Exception as e:  # torch's compilers have no common kind of error
        return describe_error(e, named=True)
    return ""


def _compiled_for_trial(x: Tensor) -> Tensor:
    return (x * x).relu() + x.mean()
