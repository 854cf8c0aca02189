"""Choose the fastest kernel for 8- or 4-bit weights on this machine, by timing each kernel once.

Generation multiplies the many rows of a prompt at once, then one row for each new token. A kernel
that is fast for one row may be slow for many; expanding the matrix to floating point can then be
faster.
Tests: tests/model/test_kernel_choice.py. Timings of this machine: `llm-scratch doctor`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.hardware.packed_matmul import MIN_TRIAL_WIDTH, linear_seconds, n_trial_copies
from llm_scratch.hardware.supported_dtypes import can_multiply
from llm_scratch.hardware.trials import (
    NEW_TOKENS,
    PROMPT_ROWS,
    Seconds,
    cached_timings,
    time_interleaved,
    time_tokens,
)
from llm_scratch.model.quantized_kernels import (
    GROUP,
    KERNELS,
    Expanded,
    Kernel,
    QuantizedWeight,
    usable,
)

MANY_ROW_DTYPES = {"expand to float32": torch.float32, "expand to bfloat16": torch.bfloat16}
MANY_ROWS = 128  # rows from which a product may expand the weights
MAX_EXCESS = 1.1  # an earlier kernel is preferred up to this factor of the shortest time


def linear_expanded(
    x: Tensor, weight: QuantizedWeight, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Dequantize the matrix, multiply in `dtype`, free it. [M, K] -> [M, N] float32."""
    y = F.linear(x.to(dtype), weight.dequantize().to(dtype)).float()
    return y if bias is None else y.add_(bias)


@dataclass(frozen=True)
class KernelChoice:
    """The chosen kernel, how many rows are multiplied, and the speedup over float32."""

    kernel: type[Kernel]
    name: str
    many_rows: torch.dtype | None
    """data type to expand to from `MANY_ROWS` rows on; None: the kernel takes any number of rows"""
    speedup: float | None
    """time of a typical text in float32 divided by its time here; None without a timing"""

    def __str__(self) -> str:
        gain = "" if self.speedup is None else f", {self.speedup:.1f} times float32's speed"
        return f"{self.name}{gain}"


def choose_kernel(bits: Literal[8, 4], width: int) -> KernelChoice:
    """Choose the fastest kernel that is correct on this machine, for a model of this width.

    If none is faster than float32, the matrices are expanded to float32 once, so that a quantized
    model is never slower.
    """
    names = usable(bits)
    if not names:
        return KernelChoice(
            Expanded,
            f"expanded to float32: no {bits}-bit product of this torch works here",
            None,
            None,
        )
    if width < MIN_TRIAL_WIDTH or (bits == 4 and width % GROUP):
        return KernelChoice(KERNELS[names[0]][1], names[0], None, None)
    floats, seconds = linear_seconds(width), kernel_seconds(bits, width)
    float32 = min(floats["float32"], floats.get("float32 packed", float("inf")))
    total: dict[tuple[str, torch.dtype | None], float] = {}
    for name in names:
        one = seconds[name]
        total[name, None] = one + seconds[f"{name}, prompt"]
        for many, dtype in MANY_ROW_DTYPES.items():
            total[name, dtype] = one + seconds.get(many, float("inf"))
    fastest = min(total.values())
    # earlier kernels round less
    best = next(candidate for candidate in total if total[candidate] <= MAX_EXCESS * fastest)
    if total[best] >= float32:
        slower = (
            f"the fastest {bits}-bit product here, {best[0]},"
            f" has {float32 / total[best]:.1f} times its speed"
        )
        return KernelChoice(Expanded, f"expanded to float32: {slower}", None, None)
    return KernelChoice(KERNELS[best[0]][1], best[0], best[1], float32 / total[best])


@torch.inference_mode()
def kernel_seconds(bits: Literal[8, 4], width: int) -> Seconds:
    """Seconds of a typical text in one matrix [4 * width, width], by kernel.

    A kernel's name is for the new tokens, with ", prompt" for the prompt; "expand to ..." is a
    prompt by `linear_expanded`.
    """
    names, cpu = usable(bits), torch.device("cpu")
    n_threads = torch.get_num_threads()
    many_rows = {name: dtype for name, dtype in MANY_ROW_DTYPES.items() if can_multiply(dtype, cpu)}

    def measure() -> Seconds:
        n_copies = n_trial_copies(width)
        weights = [trial_weight(bits, width) for _ in range(n_copies)]
        products = {name: [KERNELS[name][1](weight) for weight in weights] for name in names}
        one, many = torch.full((1, width), 0.5), torch.full((PROMPT_ROWS, width), 0.5)

        def all_of(name: str, x: Tensor) -> list[Callable[[], object]]:
            return [partial(product, x, None) for product in products[name]]

        tokens = time_tokens({name: all_of(name, one) for name in names})
        prompts = time_interleaved(
            {f"{name}, prompt": all_of(name, many) for name in names}
            | {
                name: [partial(linear_expanded, many, weight, None, dtype) for weight in weights]
                for name, dtype in many_rows.items()
            },
            n_threads,
        )
        return {name: NEW_TOKENS * seconds for name, seconds in tokens.items()} | prompts

    candidates = [*names, *(f"{name}, prompt" for name in names), *many_rows]
    question = f"a product with {bits}-bit weights"
    size = f"width {width}", f"{n_threads} threads"
    return cached_timings(question, candidates, size, measure)


def trial_weight(bits: Literal[8, 4], width: int) -> QuantizedWeight:
    """A quantized matrix [4 * width, width] of ones, for timings."""
    if bits == 8:
        return QuantizedWeight(
            torch.ones(4 * width, width, dtype=torch.int8), torch.ones(4 * width)
        )
    qweight = torch.full((4 * width, width // 2), 0x99, dtype=torch.uint8)
    return QuantizedWeight(qweight, torch.ones(4 * width, width // GROUP, dtype=torch.bfloat16))
