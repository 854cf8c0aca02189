"""In how many bits to keep the weights while writing: tried out on this machine, at the model's own width, before the first token.

To write one token a model reads every weight once, so that half the bits are half the reading; if the processor can multiply them as they
are. The precision changes the scores a little, and with them now and then a token: a seed repeats its text in one precision only.
Proof: tests/generation/test_precision.py. Whole numbers of 8 or 4 bits: model/quantized.py.
Source: bfloat16, Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training", https://arxiv.org/abs/1905.12322.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import UserError
from llm_scratch.model.packed import DTYPES, PackedLinear, can_pack
from llm_scratch.model.quantized import QuantizedLinear
from llm_scratch.model.running import device_of

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
PAYS = 1.2  # how often as fast the shorter numbers must be read: between where they paid (1.4) and did not (1.0), so that a choice stays
SMALL = 512  # emb_dim from which reading the weights is what takes the time, and not all the rest
ENOUGH = 2**26  # bytes of float32 weights to read in a trial, or the model's own if they are fewer: more than a cache holds


@dataclass(frozen=True)
class Precision:
    """What was chosen, and why in words; `bits` where the matrices are quantized and only the rest of a model has this precision."""

    name: Literal["float32", "bfloat16", "float16"]
    why: str
    bits: Literal[8, 4] | None = None

    def __str__(self) -> str:
        return f"{self.name if self.bits is None else f'{self.bits} bits'} ({self.why})"


def choose_precision(model: nn.Module, wanted: Dtype = "auto") -> Precision:
    """The precision to write in.

    On a CPU the choice is between float32 and bfloat16 (float16 is slow there where a prompt is read), on a GPU float16 too.

    Args:
        model: on the device that it will write on.
        wanted: "auto" tries what pays here; a name is taken.
    Raises:
        UserError: no such precision; or one of 16 bits for a quantized model, whose kernels have their own.
    """
    if wanted not in get_args(Dtype):
        raise UserError(f"unknown dtype {wanted!r}; expected {', '.join(get_args(Dtype))}")
    if (bits := bits_of(model)) is not None:
        if wanted in ("bfloat16", "float16"):
            raise UserError(f"the weights are in {bits} bits already; leave out dtype={wanted}, or take the model before it was quantized")
        return Precision("float32", "as the matrices were quantized", bits)
    if wanted != "auto":
        return Precision(wanted, "as asked")
    device, width = device_of(model), int(model.cfg["emb_dim"]) if hasattr(model, "cfg") else 0  # type: ignore[index]
    if device.type not in ("cpu", "cuda"):
        return Precision("float32", f"no other is tried on {device.type}")
    if width < SMALL:
        return Precision("float32", f"a model {width} wide is too small to gain from fewer bits")
    size = 4 * sum(weight.numel() for weight in model.parameters())  # bytes
    gains = gain_of(("bfloat16",) if device.type == "cpu" else ("bfloat16", "float16"), width, device, min(size, ENOUGH))
    best = "float16" if gains.get("float16", 0) > 1.1 * gains["bfloat16"] else "bfloat16"  # bfloat16 has float32's range
    said = f"{best} is read {gains[best]:.1f} times as fast as float32 here"
    if gains[best] < PAYS:
        return Precision("float32", f"{said}, and less than {PAYS} does not pay")
    return Precision("bfloat16" if best == "bfloat16" else "float16", said)


def with_dtype(model: nn.Module, wanted: Dtype = "auto") -> tuple[nn.Module, Precision]:
    """The model with its weights in the precision that `choose_precision` names, changed in place, and what it was."""
    precision = choose_precision(model, wanted)
    if precision.bits is None:
        model.to(getattr(torch, precision.name))
    return model, precision


def bits_of(model: nn.Module) -> Literal[8, 4] | None:
    """In how many bits the matrices of a quantized model are; None for any other."""
    return next((part.bits for part in model.modules() if isinstance(part, QuantizedLinear)), None)


@torch.inference_mode()
def gain_of(names: tuple[str, ...], width: int, device: torch.device, size: int = ENOUGH) -> dict[str, float]:
    """How many times as fast as in float32 one token passes through the widening matrices of a feed-forward, for each precision;
    the matrices are so many that they hold `size` bytes in float32.

    The shortest of several trials, taken in turn; on a CPU on one thread, whose times are steady on a busy machine too.
    """
    threads, n = torch.get_num_threads(), max(1, size // (16 * width * width))
    dtypes = [torch.float32, *(getattr(torch, name) for name in names)]
    layers = {dtype: [_widening(width, dtype, device) for _ in range(n)] for dtype in dtypes}
    best = dict.fromkeys(dtypes, float("inf"))  # seconds
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        for turn in range(6):
            for dtype in dtypes:
                x = torch.full((1, width), 0.5, dtype=dtype, device=device)
                seconds = _seconds(layers[dtype], x)
                best[dtype] = min(best[dtype], seconds) if turn else best[dtype]  # a first call is slower
    finally:
        torch.set_num_threads(threads)
    return {name: best[torch.float32] / best[getattr(torch, name)] for name in names}


def _widening(width: int, dtype: torch.dtype, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A product with a matrix [F, C], packed where a model that writes is packed."""
    weight = torch.full((4 * width, width), 0.5, dtype=dtype, device=device)
    return PackedLinear(weight) if device.type == "cpu" and dtype in DTYPES and can_pack() else partial(F.linear, weight=weight)


def _seconds(layers: list[Callable[[Tensor], Tensor]], x: Tensor) -> float:
    """How long one row takes through each of the matrices."""
    began = time.perf_counter()
    for layer in layers:
        layer(x)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - began
