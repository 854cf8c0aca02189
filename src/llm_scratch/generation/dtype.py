"""Choose the data type for inference: float32, bfloat16 or float16, whichever is fastest here.

Generating a token reads every weight once, so half the bits take half the time, if the processor
can multiply the type directly. The data type changes the logits slightly and thereby some tokens: a
seed repeats its text in one data type only.
Tests: tests/generation/test_dtype.py. Weights of 8 or 4 bits: model/quantized.py.
Source: bfloat16, Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training",
https://arxiv.org/abs/1905.12322.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import UserError
from llm_scratch.hardware.packed_matmul import linear_seconds
from llm_scratch.hardware.supported_dtypes import can_multiply
from llm_scratch.hardware.trials import PROMPT_ROWS, Candidates, text_seconds
from llm_scratch.model.introspection import device_of
from llm_scratch.model.kernel_choice import choose_kernel
from llm_scratch.model.language_model import as_language_model
from llm_scratch.model.quantized import QuantizedLinear

Model = TypeVar("Model", bound=nn.Module)
SixteenBits = Literal["bfloat16", "float16"]
Dtype = Literal["auto", "float32", SixteenBits]
# the first is preferred, as it has float32's range
SIXTEEN_BITS: tuple[SixteenBits, ...] = ("bfloat16", "float16")
# over float32, from which fewer bits are chosen: between where they paid (1.4) and did not (1.0)
MIN_SPEEDUP = 1.2
GPU_TRIAL_BYTES = 2**28  # of float32 weights in a trial: more than a GPU's cache holds
MIN_WIDTH = 512  # emb_dim from which reading the weights takes most of the time


@dataclass(frozen=True)
class DtypeChoice:
    """The chosen data type and the reason; `bits` of the matrices of a quantized model."""

    name: Literal["float32", "bfloat16", "float16"]
    reason: str
    bits: Literal[8, 4] | None = None

    def __str__(self) -> str:
        return f"{self.name if self.bits is None else f'{self.bits} bits'} ({self.reason})"


def choose_dtype(model: nn.Module, wanted: Dtype = "auto") -> DtypeChoice:
    """The data type to generate in.

    Args:
        model: on the device that it will run on.
        wanted: a data type, or "auto" for the one that a trial finds fastest.
    Raises:
        UserError: unknown data type; one that the device does not multiply correctly; or one of 16
            bits for a quantized model, whose kernels have their own.
    """
    if wanted not in get_args(Dtype):
        raise UserError(f"unknown dtype {wanted!r}; expected {', '.join(get_args(Dtype))}")
    device, width = device_of(model), as_language_model(model).emb_dim
    if (bits := bits_of(model)) is not None:
        if wanted in ("bfloat16", "float16"):
            raise UserError(
                f"the weights are in {bits} bits already;"
                f" leave out dtype={wanted}, or take the model before it was quantized"
            )
        reason = (
            "quantized" if device.type != "cpu" or not width else f"{choose_kernel(bits, width)}"
        )
        return DtypeChoice("float32", reason, bits)
    if wanted == "float32":
        return DtypeChoice(wanted, "as requested")
    if wanted != "auto":
        return _requested(wanted, width, device)
    if device.type not in ("cpu", "cuda"):
        return DtypeChoice("float32", f"no other is tried on {device.type}")
    if width < MIN_WIDTH:
        small = f"a model {width} wide is too small to gain from fewer bits"
        return DtypeChoice("float32", small)
    names = [name for name in SIXTEEN_BITS if can_multiply(getattr(torch, name), device)]
    if not names:
        return DtypeChoice("float32", f"{device} multiplies in no other type")
    speed = speedups(names, width, device)
    best = names[0]
    if speed[names[-1]] > 1.1 * speed[best]:
        best = names[-1]
    reason = f"{best} has {speed[best]:.1f} times float32's speed here"
    if speed[best] < MIN_SPEEDUP:
        return DtypeChoice("float32", f"{reason}; float32 is kept below {MIN_SPEEDUP}")
    return DtypeChoice(best, reason)


def _requested(name: SixteenBits, width: int, device: torch.device) -> DtypeChoice:
    """The data type that a user asked for, with a note if it is slower than float32."""
    if not can_multiply(getattr(torch, name), device):
        raise UserError(f"dtype {name}: {device} does not multiply in it here; use auto or float32")
    if device.type not in ("cpu", "cuda"):
        return DtypeChoice(name, "as requested")
    speed = speedups([name], width, device)[name]
    slow = f", {speed:.1f} times float32's speed here" if speed < 1 else ""
    return DtypeChoice(name, f"as requested{slow}")


def with_dtype(model: Model, wanted: Dtype = "auto") -> tuple[Model, DtypeChoice]:
    """Convert a model's weights in place to the data type that `choose_dtype` chooses."""
    choice = choose_dtype(model, wanted)
    if choice.bits is None:
        model.to(getattr(torch, choice.name))
    return model, choice


def bits_of(model: nn.Module) -> Literal[8, 4] | None:
    """Bits of the matrices of a quantized model; None for any other."""
    return next((part.bits for part in model.modules() if isinstance(part, QuantizedLinear)), None)


@torch.inference_mode()
def speedups(names: Sequence[str], width: int, device: torch.device) -> dict[str, float]:
    """Speedup over float32 of a typical text in a matrix [4 * width, width], by data type.

    Each data type by its faster product, plain or packed.
    """
    if device.type == "cpu":
        seconds = linear_seconds(width)
        best = {
            name: min(seconds.get(kind, float("inf")) for kind in (name, f"{name} packed"))
            for name in (*names, "float32")
        }
        return {name: best["float32"] / best[name] for name in names}
    n_copies = max(1, GPU_TRIAL_BYTES // (16 * width * width))
    weights = {
        name: [
            torch.full((4 * width, width), 0.5, dtype=getattr(torch, name), device=device)
            for _ in range(n_copies)
        ]
        for name in (*names, "float32")
    }

    def products(rows: int) -> Candidates:
        return {
            name: [partial(_product, weight, rows) for weight in copies]
            for name, copies in weights.items()
        }

    seconds = text_seconds(products(1), products(PROMPT_ROWS))
    return {name: seconds["float32"] / seconds[name] for name in names}


def _product(weight: Tensor, rows: int) -> None:
    F.linear(
        torch.full((rows, weight.shape[1]), 0.5, dtype=weight.dtype, device=weight.device), weight
    )
    torch.cuda.synchronize(weight.device)
