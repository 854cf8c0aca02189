"""Choose float32 or bfloat16 for matrix products, by timing the model's own shapes on this machine.

A processor may multiply bfloat16 twice as fast as float32, or half as fast. Weights, optimizer
state, norms and the sums inside every product stay float32.
Tests: tests/training/test_precision.py. Gains: `python benchmarks/train.py`.
Source: mixed precision, Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.errors import UserError
from llm_scratch.hardware.benchmark import best_time
from llm_scratch.hardware.matmul_backend import select_matmul_backend
from llm_scratch.hardware.trials import Seconds, cached_timings, time_interleaved

MIN_SPEEDUP = 1.3  # of bfloat16 products: they are only about half of a step
MIN_WIDTH = 256  # emb_dim from which bfloat16 is tried


@dataclass(frozen=True)
class Precision:
    """The precision of matrix products, and the reason for it."""

    name: Literal["float32", "bfloat16"]
    reason: str

    def products(self, device: torch.device) -> AbstractContextManager[object]:
        """The context for a forward pass: bfloat16 autocast, or nothing for float32."""
        if self.name == "bfloat16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()


def choose_precision(
    wanted: Literal["auto", "float32", "bfloat16"], emb_dim: int, device: torch.device
) -> Precision:
    """Choose the precision of a run.

    Args:
        wanted: as in `SystemConfig.precision`.
        emb_dim: width of the model.
        device: of the computation.
    Raises:
        UserError: bfloat16 is requested and this device does not support it.
    """
    if wanted == "bfloat16" and not can_multiply_bfloat16(device):
        raise UserError(
            f"--system.precision bfloat16: {device} does not multiply in bfloat16 here;"
            " use auto or float32"
        )
    if wanted == "float32":
        return Precision(wanted, "as requested")
    if wanted == "bfloat16":
        ratio = bfloat16_speedup(emb_dim, device) if device.type in ("cpu", "cuda") else 1
        slow = f", {ratio:.1f} times float32's speed here" if ratio < 1 else ""
        return Precision(wanted, f"as requested{slow}")
    if device.type not in ("cpu", "cuda"):
        return Precision("float32", f"bfloat16 is not tried on {device.type}")
    if emb_dim < MIN_WIDTH:
        return Precision("float32", f"matrices of {emb_dim} are too small to gain from bfloat16")
    ratio = bfloat16_speedup(emb_dim, device)
    times = f"bfloat16 multiplies {ratio:.1f} times as fast as float32 here"
    return Precision("bfloat16", times) if ratio >= MIN_SPEEDUP else Precision("float32", times)


def precision_of_run(name: Literal["float32", "bfloat16"], device: torch.device) -> Precision:
    """The precision of a resumed run: the stored one, or float32 where there is no bfloat16."""
    if name == "bfloat16" and not can_multiply_bfloat16(device):
        return Precision(
            "float32", f"the run began in bfloat16, in which {device} does not multiply here"
        )
    return Precision(name, "as in the run's checkpoint")


def can_multiply_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies matrices in bfloat16 under autocast; tries a small product."""
    x = torch.ones(2, 2, device=device)
    try:
        with warnings.catch_warnings():
            # older systems warn and stay in float32, which the dtype shows
            warnings.simplefilter("ignore")
            with Precision("bfloat16", "").products(device):
                product = F.linear(x, x)
                return product.dtype == torch.bfloat16 and bool((product == 2).all())
    except (RuntimeError, TypeError):
        return False


@lru_cache
def bfloat16_speedup(emb_dim: int, device: torch.device) -> float:
    """Speedup of bfloat16 over float32, casts included, for a feed-forward block's first product.

    The result is cached for all processes, so that a plan and its run agree. A CPU is timed on one
    thread.
    """

    def measure() -> Seconds:
        rows = 512 if device.type == "cpu" else 8192
        x = torch.full((rows, emb_dim), 0.5, device=device)  # [N, C]
        weight = torch.full((4 * emb_dim, emb_dim), 0.5, device=device)  # [F, C]
        variants: dict[str, Callable[[], Tensor]] = {
            "float32": lambda: F.linear(x, weight),
            "bfloat16": lambda: F.linear(x.bfloat16(), weight.bfloat16()).float(),
        }
        if device.type == "cpu":
            return time_interleaved({name: [product] for name, product in variants.items()})
        return {name: best_time(product, device, 0.15) for name, product in variants.items()}

    if device.type == "cpu":
        backend = select_matmul_backend()
        names, depends_on = ["float32", "bfloat16"], [f"width {emb_dim}", backend]
        seconds = cached_timings("bfloat16 in training", names, depends_on, measure)
    else:
        seconds = measure()
    return seconds["float32"] / seconds["bfloat16"]
