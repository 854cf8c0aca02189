"""Whether oneDNN's own linear layer is faster than torch's on this CPU, for the shapes of a model.

torch's float32 products go to one library (`matmul_backend`). oneDNN can also be called directly,
by the operator that torch's compiler uses. On processors with AVX2 alone that is the only way to
it, and 10 to 20 % faster for most shapes, up to a third slower for some: so it is tried.
Tests: tests/hardware/test_linear_kernel.py. Gain: LOG.md, 2026-11-29.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.hardware.matmul_backend import MAX_RELATIVE_ERROR, one_thread, thread_seconds

FORWARD, INPUT_GRADIENT = "forward", "input gradient"
MIN_SPEEDUP = 1.08  # 1.13 to 1.17 where it is faster, 0.99 to 1.04 where both are one library
TRIAL_ROWS = 128
TRIAL_REPEATS = 4


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN, without gradients. [..., K], [N, K], [N] -> [..., N], float32."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@lru_cache(maxsize=1)
def has_onednn_linear() -> bool:
    """Whether this build of torch and this processor can do it: found by doing it once."""
    try:
        x, weight, bias = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
        exact = F.linear(x.double(), weight.double(), bias[0].double())
        error = (onednn_linear(x, weight, bias[0]) - exact).norm() / exact.norm()
    except (RuntimeError, AttributeError):
        return False
    return bool(error < MAX_RELATIVE_ERROR)


@lru_cache
def faster_products(shapes: tuple[tuple[int, int], ...], matmul_backend: str) -> tuple[str, ...]:
    """Which products of linear layers oneDNN does faster: `FORWARD`, `INPUT_GRADIENT`, both, none.

    The forward product must be faster for the median shape; it is a few percent slower at worst.
    The gradient of the input must be faster for all, as it can be much slower for one.
    Takes 50 ms for a width of 384, 0.2 s for 768.

    Args:
        shapes: (out, in) of the model's matrices.
        matmul_backend: what torch uses, as results depend on it.
    """
    if not shapes or not has_onednn_linear():
        return ()
    with one_thread(), torch.no_grad():
        if median(_forward_speedup(*shape) for shape in shapes) < MIN_SPEEDUP:
            return ()
        if any(_gradient_speedup(*shape) < MIN_SPEEDUP for shape in shapes):
            return (FORWARD,)
    return FORWARD, INPUT_GRADIENT


def _forward_speedup(n_out: int, n_in: int) -> float:
    x, weight = torch.ones(TRIAL_ROWS, n_in), torch.ones(n_out, n_in)
    return _speedup(lambda: F.linear(x, weight), lambda: onednn_linear(x, weight))


def _gradient_speedup(n_out: int, n_in: int) -> float:
    dy, weight = torch.ones(TRIAL_ROWS, n_out), torch.ones(n_out, n_in)
    return _speedup(lambda: dy @ weight, lambda: onednn_linear(dy, weight.T))


def _speedup(plain: Callable[[], Tensor], onednn: Callable[[], Tensor]) -> float:
    """Processor time of `plain` over that of `onednn`: the shortest of several, in turn."""
    shortest = [math.inf, math.inf]
    for _ in range(TRIAL_REPEATS):
        for i, work in enumerate((plain, onednn)):
            shortest[i] = min(shortest[i], thread_seconds(work, 1))
    return shortest[0] / shortest[1]
