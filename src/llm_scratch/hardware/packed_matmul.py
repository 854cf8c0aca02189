"""Packed matrix products: weights are stored in the order in which they are read fastest.

A processor multiplies 8 to 32 rows at a time, so in a plain matrix it jumps between as many
addresses. oneDNN has a layout for each processor. Whether it works for a data type is tested by a
small product.
Tests: tests/hardware/test_packed_matmul.py. Gain: `python benchmarks/decode.py`.
Source: https://uxlfoundation.github.io/oneDNN/dev_guide_understanding_memory_formats.html.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.hardware.matmul_backend import onednn_precision
from llm_scratch.hardware.supported_dtypes import TOLERANCE, can_multiply, products_are_correct
from llm_scratch.hardware.trials import (
    PROMPT_ROWS,
    Candidates,
    Seconds,
    cached_timings,
    text_seconds,
)

TRIAL_BYTES = 2**25  # of float32 weights in a trial: more than most caches hold
MAX_TRIAL_COPIES = 16
"""matrices in a trial, at most: a model has about as many layers, so narrow ones fit into a cache
there too"""
MIN_TRIAL_WIDTH = 128  # narrower matrices take the first implementation that works, without timing
MIN_GAIN = 1.05  # times as fast as the plain product, from which packing is used


def pack_weight(weight: Tensor) -> Tensor:
    """Reorder a matrix [N, K] for `packed_matmul` with any number of rows.

    Raises:
        RuntimeError: this processor or this torch cannot pack this data type.
    """
    try:
        return torch.ops.mkldnn._reorder_linear_weight(weight, None)
    except AttributeError as e:  # a torch without oneDNN
        raise RuntimeError("packing failed: this torch has no oneDNN; use plain weights") from e


def packed_matmul(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., K] times a packed matrix -> [..., N], plus the bias."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


def packed_range(packed: Tensor) -> tuple[int, int]:
    """The address and the bytes of a packed matrix."""
    return torch.ops.mkldnn.data_ptr(packed), torch.ops.mkldnn._nbytes(packed)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether packed products of this data type are correct on this machine; tried once."""
    return dtype in TOLERANCE and _can_pack(dtype)


@cache
@torch.inference_mode()
def _can_pack(dtype: torch.dtype) -> bool:
    def packed_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
        packed = pack_weight(weight)
        if not torch.equal(packed.to_dense(), weight) or packed_range(packed)[1] <= 0:
            raise RuntimeError("the packed matrix cannot be read")
        return lambda x: packed_matmul(x, packed)

    try:
        return products_are_correct(dtype, packed_product)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


@torch.inference_mode()
def linear_seconds(width: int) -> Seconds:
    """Seconds of a typical text in one matrix [4 * width, width] on the CPU: plain and packed.

    Names are "float32", "float32 packed", "bfloat16" and so on: those that are correct here.
    Measured once for each width, number of threads and machine.
    """
    cpu = torch.device("cpu")
    dtypes = {f"{dtype}".removeprefix("torch."): dtype for dtype in TOLERANCE}
    plain = {name: dtype for name, dtype in dtypes.items() if can_multiply(dtype, cpu)}
    packable = {f"{name} packed": dtype for name, dtype in dtypes.items() if can_pack(dtype)}

    def measure() -> Seconds:
        n_copies = n_trial_copies(width)
        candidates: dict[
            str, tuple[Callable[[Tensor, Tensor], Tensor], list[Tensor], torch.dtype]
        ] = {}
        for name, dtype in (plain | packable).items():
            weights = [torch.full((4 * width, width), 0.5, dtype=dtype) for _ in range(n_copies)]
            if name in plain:
                candidates[name] = F.linear, weights, dtype
            else:
                candidates[name] = packed_matmul, [pack_weight(each) for each in weights], dtype

        def products(rows: int) -> Candidates:
            return {
                name: [
                    partial(product, torch.full((rows, width), 0.5, dtype=dtype), weight)
                    for weight in weights
                ]
                for name, (product, weights, dtype) in candidates.items()
            }

        return text_seconds(products(1), products(PROMPT_ROWS))

    return cached_timings(
        "a floating-point product",
        [*plain, *packable],
        [f"width {width}", f"{torch.get_num_threads()} threads", f"oneDNN {onednn_precision()}"],
        measure,
    )


def n_trial_copies(width: int) -> int:
    """Number of matrices [4 * width, width] that a trial alternates between."""
    return min(MAX_TRIAL_COPIES, max(1, TRIAL_BYTES // (16 * width * width)))


def packing_pays(dtype: torch.dtype, width: int) -> bool:
    """Whether a packed product of this width is correct and faster than the plain one here.

    Below MIN_TRIAL_WIDTH it counts as faster without a trial.
    """
    if not can_pack(dtype):
        return False
    if width < MIN_TRIAL_WIDTH:
        return True
    seconds, name = linear_seconds(width), f"{dtype}".removeprefix("torch.")
    plain = seconds.get(name, float("inf"))
    return plain >= MIN_GAIN * seconds.get(f"{name} packed", float("inf"))
