"""A model together with its loss, prepared for training on this machine.

That is: precision, matmul library and torch.compile.

`ModelWithLoss` is one module from token ids to loss, which is what wrappers (compilers, DDP, FSDP)
need. Choices that were made by timing and change bits are stored in checkpoints
(`ModelWithLoss.choices`) and restored when a run resumes (`ModelWithLoss.restore_choices`): timing
on another day may differ.
Tests: tests/training/test_model_with_loss.py. Gains: `python benchmarks/train.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.config import SystemConfig
from llm_scratch.errors import describe_error
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.hardware.linear_kernel import faster_products, has_onednn_linear
from llm_scratch.hardware.matmul_backend import fastest_matmul_backend, use_matmul_backend
from llm_scratch.model.chunked_loss import total_loss
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fast_linear import fast_product, large_shapes, set_products
from llm_scratch.model.language_model import LanguageModel, as_language_model
from llm_scratch.model.layers import GELU
from llm_scratch.model.training_hooks import add_extra_loss, set_counted
from llm_scratch.training.precision import Precision, choose_precision, precision_of_run

COMPILE_SECONDS = 60.0  # approximate time of torch.compile for a GPT
# share of a step that it saves; on CPUs steps became 0 to 20% longer
COMPILE_SAVING = {"cpu": 0.0, "cuda": 0.3}
TYPICAL_MFU = 0.4  # share of the matmul rate that an ordinary step reaches
AS_STORED = "as in the run's checkpoint"
REQUESTED = "as requested"

FLOAT32 = Precision("float32", REQUESTED)


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""`loss(model, inputs, targets)`: a scalar, the sum over the targets that are not `IGNORE`.

A step divides it by their number, so a loss per row is multiplied by the targets of the row.
"""


class ModelWithLoss(nn.Module):
    """A model and its loss: ids and targets [B, T] in, the summed loss in nats out.

    Dropout uses its fast path.

    Args:
        model: the model.
        precision: of the matrix products.
        loss: of the model (default: cross-entropy with the targets, in chunks).

    Attributes:
        precision: of the matrix products.
        matmul_backend: the library that multiplies on a CPU; "" on other devices.
        onednn_products: products of linear layers that oneDNN's operator computes (`set_products`).
        compiled: whether torch.compile is used for the model's trunk.
        compile_reason: why it is, or is not.
    """

    def __init__(
        self, model: nn.Module, precision: Precision = FLOAT32, loss: Loss | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.loss = loss
        self.matmul_backend = ""
        self.onednn_products: tuple[str, ...] = ()
        self.compiled = False
        self.compile_reason = "not requested"
        for part in model.modules():
            if isinstance(part, (Dropout, GELU)):
                part.fast = True

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss, a scalar.

        In training, its gradient includes extra losses of parts, such as a router's balance loss.
        """
        if self.training:
            set_counted(self.model, targets)
        with self.precision.products(inputs.device):
            if self.loss is not None:
                loss = self.loss(self.model, inputs, targets)
            else:
                product = fast_product if self.onednn_products else F.linear
                loss = total_loss(self.model, inputs, targets, product)
            return add_extra_loss(loss, self.model) if self.training else loss

    @property
    def description(self) -> str:
        """Precision, matmul library and compilation with their reasons, in one line."""
        backend = f", products by {self.matmul_backend}" if self.matmul_backend else ""
        if self.onednn_products:
            backend += f" ({' and '.join(self.onednn_products)} of linear layers by oneDNN)"
        compiled = f"{'' if self.compiled else 'not '}compiled: {self.compile_reason}"
        return f"{self.precision.name}: {self.precision.reason}{backend}; {compiled}"

    def set_compiled(self, compiled: bool, reason: str) -> None:
        """Compile the model's trunk at its next call, or stop using a compiled one."""
        trunk = self.model.__dict__
        if compiled and not self.compiled and isinstance(self.model, LanguageModel):
            trunk["hidden"] = torch.compile(self.model.hidden)
        elif not compiled:
            trunk.pop("hidden", None)  # this uncovers the method of the class
        self.compiled = compiled
        self.compile_reason = reason

    def set_products(self, products: Sequence[str]) -> None:
        """Use oneDNN for exactly these products of the model's large linear layers."""
        self.onednn_products = tuple(products)
        set_products(self.model, products)

    def choices(self) -> dict[str, Any]:
        """The choices that change bits: JSON for a checkpoint."""
        return {
            "precision": self.precision.name,
            "matmul_backend": self.matmul_backend,
            "onednn_products": list(self.onednn_products),
            "compiled": self.compiled,
        }

    def restore_choices(
        self, stored: Mapping[str, Any], system: SystemConfig, device: torch.device
    ) -> None:
        """Use the choices of a run's checkpoint instead of those timed now.

        An explicit setting of `system` wins. A choice that is missing (an older checkpoint) or not
        possible here stays as it is. A checkpoint from another kind of device contributes only its
        precision: sums round differently anyway.

        Args:
            stored: the checkpoint's state, with the result of `choices`.
            system: the settings of the resumed run.
            device: of the computation.
        """
        if system.precision == "auto" and "precision" in stored:
            self.precision = precision_of_run(stored["precision"], device)
        if stored.get("device", device.type) != device.type:
            return
        if self.matmul_backend and stored.get("matmul_backend"):
            self.matmul_backend = use_matmul_backend(stored["matmul_backend"])
        if device.type == "cpu" and "onednn_products" in stored:
            self.set_products(stored["onednn_products"] if has_onednn_linear() else ())
        if system.compile == "auto" and "compiled" in stored:
            compiled = stored["compiled"]
            if compiled == self.compiled or not compiled or not compile_problem(device):
                self.set_compiled(compiled, AS_STORED)
            else:
                self.compile_reason = "the compiler does not work here"


def prepare_for_training(
    model: nn.Module,
    system: SystemConfig,
    device: torch.device,
    work: float = 0.0,
    loss: Loss | None = None,
) -> ModelWithLoss:
    """Prepare a model for training on this machine; the result's `description` says how and why.

    Args:
        model: on its device.
        system: precision and compile settings.
        device: of the computation.
        work: floating-point operations of the whole run, to decide whether compiling is worth it.
        loss: as for `ModelWithLoss`.
    """
    model = as_language_model(model)
    on_cpu = device.type == "cpu"
    backend = use_matmul_backend(fastest_matmul_backend()) if on_cpu else ""
    precision = choose_precision(system.precision, model.emb_dim, device)
    dtype = torch.bfloat16 if precision.name == "bfloat16" else torch.float32
    model_with_loss = ModelWithLoss(model, precision, loss)
    model_with_loss.matmul_backend = backend
    if on_cpu and precision.name == "float32":
        model_with_loss.set_products(faster_products(large_shapes(model), backend))
    compiled, reason = should_compile(system.compile, work, device, dtype)
    if compiled and (problem := compile_problem(device)):
        compiled, reason = False, f"torch.compile does not work here ({problem})"
    model_with_loss.set_compiled(compiled, reason)
    if on_cpu and model.head_is_tied:
        model.tok_emb.sparse = True  # added to the head's gradient without a dense table
    return model_with_loss


def should_compile(
    wanted: str, work: float, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[bool, str]:
    """Whether to use torch.compile, and the reason.

    `wanted` and `work` as in `prepare_for_training`.
    """
    if wanted != "auto":
        return wanted == "yes", REQUESTED
    share = COMPILE_SAVING.get(device.type, 0.0)
    if not share:
        return False, f"it saves nothing on {device.type}"
    saved = share * work / (TYPICAL_MFU * matmul_flops(device, dtype))
    return (
        saved > COMPILE_SECONDS,
        f"it would save about {saved:.0f} s of this run and take {COMPILE_SECONDS:.0f} s",
    )


def compile_problem(device: torch.device) -> str:
    """Why torch.compile does not work on a device, such as a missing C++ compiler; "" if it works.

    Compiles a small function, which takes some seconds. Its size is random, since the compiler
    caches.
    """
    size = 9 + int.from_bytes(os.urandom(2), "little") % 4096
    x = torch.ones(size, device=device, requires_grad=True)
    try:
        torch.compile(_small_function)(x).sum().backward()
    except Exception as e:  # torch's compilers have no common kind of error
        return describe_error(e, named=True)
    return ""


def _small_function(x: Tensor) -> Tensor:
    return (x * x).relu() + x.mean()
