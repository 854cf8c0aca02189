"""The product of one row with a matrix as explicit sums, which a compiler fuses into one loop.

A matrix is read once for each new token, at the speed of memory. A core reads several parts of
memory at once faster than one, because each part has its own prefetching: so the rows of the matrix
are divided into parts, and the loop computes one output of each. How many parts are fastest is
measured by compiling both forms once.
Tests: tests/model/test_matvec.py. Gain: LOG.md, 2026-11-30, and `python benchmarks/decode.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from llm_scratch.hardware.compiled_products import Compile, compiled_seconds
from llm_scratch.hardware.matmul_backend import onednn_precision
from llm_scratch.hardware.packed_matmul import (
    MIN_TRIAL_WIDTH,
    can_pack,
    n_trial_copies,
    pack_weight,
    packed_matmul,
)
from llm_scratch.hardware.trials import Candidates

N_PARTS = (1, 4)  # the numbers of parts that are tried
MIN_GAIN = 1.05  # speedup from which parts, or a compiled head, are used


def matvec(x: Tensor, weight: Tensor, bias: Tensor | None = None, n_parts: int = 1) -> Tensor:
    """`F.linear` of a single row as sums: [1, ..., 1, K] -> [1, ..., 1, N].

    Args:
        x: the row.
        weight: [N, K].
        bias: [N], or None.
        n_parts: about how many parts of the weight's rows are read at once.
    """
    # materialized, or the compiler would recompute the row for each output
    row = x.contiguous().as_strided(weight.shape[1:], (1,))
    parts = weight.split(max(1, len(weight) // n_parts))
    outputs = [(part * row).sum(1) for part in parts]
    y = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return (y if bias is None else y + bias).view(*x.shape[:-1], -1)


class MatvecLinear(TorchFunctionMode):
    """Context manager in which every `F.linear` is computed by `matvec`."""

    def __init__(self, n_parts: int = 1) -> None:
        super().__init__()
        self.n_parts = n_parts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace `F.linear`; pass on every other function."""
        if func is F.linear:
            func = partial(matvec, n_parts=self.n_parts)
        return func(*args, **kwargs or {})


@dataclass(frozen=True)
class MatvecChoice:
    """How compiled products of one row are fastest on this machine."""

    n_parts: int
    compiles_head: bool
    """whether a compiled product is faster than a plain and a packed one"""


def choose_matvec(
    dtype: torch.dtype, width: int, on_compile: Callable[[], None] = lambda: None
) -> MatvecChoice:
    """Choose how to compute a compiled product of one row, for a model of this width.

    Args:
        dtype: of the weights.
        width: of the matrix [4 * width, width] that is timed.
        on_compile: called before the compilation.
    """
    if width < MIN_TRIAL_WIDTH:
        return MatvecChoice(1, compiles_head=False)
    packs = can_pack(dtype)

    def candidates(compiled: Compile) -> Candidates:
        x = torch.full((1, width), 0.5, dtype=dtype)
        shape = 4 * width, width
        weights = [torch.full(shape, 0.5, dtype=dtype) for _ in range(n_trial_copies(width))]
        calls: dict[str, list[Callable[[], Tensor]]] = {}
        for n in N_PARTS:
            run = compiled(partial(matvec, n_parts=n))
            calls[f"parts: {n}"] = [partial(run, x, weight) for weight in weights]
        calls["plain"] = [partial(F.linear, x, weight) for weight in weights]
        if packs:
            packed = [pack_weight(weight) for weight in weights]
            calls["packed"] = [partial(packed_matmul, x, weight) for weight in packed]
        return calls

    others = ["plain", "packed"] if packs else ["plain"]
    names = [*(f"parts: {n}" for n in N_PARTS), *others]
    question = f"a compiled product in {dtype}"
    size = [f"width {width}", f"oneDNN {onednn_precision()}"]
    seconds = compiled_seconds(question, names, candidates, size, on_compile, others)
    one, several = (seconds[f"parts: {n}"] for n in N_PARTS)
    n_parts = N_PARTS[1] if MIN_GAIN * several < one else N_PARTS[0]
    compiles_head = MIN_GAIN * min(one, several) < min(seconds[name] for name in others)
    return MatvecChoice(n_parts, compiles_head)
