"""Whether oneDNN's own linear layer is faster than torch's on this CPU, for the shapes of a model.

torch's float32 products go to one library (`matmul_backend`). oneDNN can also be called directly,
by the operator that torch's compiler uses. On processors with only AVX2 this is the only access to
oneDNN; it is 10 to 20 % faster for most shapes, up to a third slower for some, so a trial decides.
Tests: tests/hardware/test_linear_kernel.py. Gain: LOG.md, 2026-11-29.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.hardware.matmul_backend import MAX_RELATIVE_ERROR
from llm_scratch.hardware.trials import Seconds, cached_timings, time_interleaved

FORWARD, INPUT_GRADIENT = "forward", "input gradient"
MIN_SPEEDUP = 1.08  # 1.13 to 1.17 where it is faster, 0.99 to 1.04 where both are one library
TRIAL_ROWS = 128


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN, without gradients. [..., K], [N, K], [N] -> [..., N], float32."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@lru_cache(maxsize=1)
def has_onednn_linear() -> bool:
    """Whether this build of torch and this processor can do it: found by doing it once."""
    try:
        x, weight, bias = torch.randn(
            3, 64, 64, generator=torch.Generator().manual_seed(0)
        ).unbind()
        exact = F.linear(x.double(), weight.double(), bias[0].double())
        error = (onednn_linear(x, weight, bias[0]) - exact).norm() / exact.norm()
    except (RuntimeError, AttributeError):
        return False
    return bool(error < MAX_RELATIVE_ERROR)


def faster_products(shapes: tuple[tuple[int, int], ...], matmul_backend: str) -> tuple[str, ...]:
    """Which products of linear layers oneDNN does faster: `FORWARD`, `INPUT_GRADIENT`, both, none.

    The forward product must be faster for the median shape; it is a few percent slower at worst.
    The gradient of the input must be faster for all, as it can be much slower for one. The first
    time this takes 50 ms for a width of 384, 0.2 s for 768; timings are kept, see `trials`.

    Args:
        shapes: (out, in) of the model's matrices.
        matmul_backend: what torch uses, as results depend on it.
    """
    if not shapes or not has_onednn_linear():
        return ()
    if median(_speedup(FORWARD, shape, matmul_backend) for shape in shapes) < MIN_SPEEDUP:
        return ()
    if any(_speedup(INPUT_GRADIENT, shape, matmul_backend) < MIN_SPEEDUP for shape in shapes):
        return (FORWARD,)
    return FORWARD, INPUT_GRADIENT


def _speedup(product: str, shape: tuple[int, int], matmul_backend: str) -> float:
    """Processor time of torch's product over that of oneDNN's."""
    question = f"{product} of a linear layer in float32"
    measure = _forward_seconds if product == FORWARD else _gradient_seconds
    names, depends_on = ["torch", "oneDNN"], [*shape, matmul_backend]
    seconds = cached_timings(question, names, depends_on, lambda: measure(*shape))
    return seconds["torch"] / seconds["oneDNN"]


def _forward_seconds(n_out: int, n_in: int) -> Seconds:
    x, weight = torch.ones(TRIAL_ROWS, n_in), torch.ones(n_out, n_in)
    with torch.no_grad():
        return time_interleaved(
            {"torch": [lambda: F.linear(x, weight)], "oneDNN": [lambda: onednn_linear(x, weight)]}
        )


def _gradient_seconds(n_out: int, n_in: int) -> Seconds:
    dy, weight = torch.ones(TRIAL_ROWS, n_out), torch.ones(n_out, n_in)
    with torch.no_grad():
        return time_interleaved(
            {"torch": [lambda: dy @ weight], "oneDNN": [lambda: onednn_linear(dy, weight.T)]}
        )
