"""Which of torch's two matrix libraries multiplies float32 matrices on a CPU.

Tests: tests/hardware/test_matmul_backend.py. Gains: `python benchmarks/train.py`,
`python benchmarks/decode.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from statistics import median
from typing import Any

import torch
from torch import Tensor

from llm_scratch.hardware.thread_timer import one_thread, thread_seconds

ONEDNN = "oneDNN"
MAX_RELATIVE_ERROR = 1e-5  # up to which a product counts as float32
MIN_SPEEDUP = 1.2  # of oneDNN over the default; equal libraries measure within 2 % of each other
TRIAL_SHAPES = ((256, 512, 512), (64, 128, 512), (8, 512, 512))  # [N, C] times [C, F]: N, C, F
TRIAL_REPEATS = 5

_KNOB: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
_DEFAULT_PRECISION = _KNOB.fp32_precision
_in_use: str | None = None


def select_matmul_backend() -> str:
    """Select the faster library for this process, unless one is in use already; return its name.

    The setting is torch's own and process-wide: it changes the last bits and the speed of every
    float32 product on the CPU, not its precision. Inference does not depend on it otherwise.
    Training stores the name with the run (`training.model_with_loss`), as it changes bits.
    """
    return _in_use or use_matmul_backend(fastest_matmul_backend())


def use_matmul_backend(name: str) -> str:
    """Make a library multiply from now on, where that is possible; return the one in use.

    Args:
        name: as `fastest_matmul_backend` returns it. oneDNN is not used where it would round to
            bfloat16, and a library that this build of torch lacks is replaced by the default.
    """
    global _in_use
    _in_use = ONEDNN if name == ONEDNN and onednn_is_float32() else default_backend()
    _switch(_in_use)
    return _in_use


def default_backend() -> str:
    """The library that torch uses by itself: MKL in builds for x86, else another BLAS."""
    return "MKL" if torch.backends.mkl.is_available() else "BLAS"


@lru_cache(maxsize=1)
def fastest_matmul_backend() -> str:
    """Multiply a few matrices by each library and return the name of the faster one.

    Takes about 50 ms, once a process. Shapes and layouts are those of a training step and of a few
    rows of inference. The default stays unless oneDNN is `MIN_SPEEDUP` times as fast, so that noise
    does not decide between equals. Where oneDNN has no kernels for float32, torch ignores
    the setting; both give the same bits then, and nothing is timed.
    """
    if not onednn_is_float32() or _onednn_gives_the_same_bits():
        return default_backend()
    return ONEDNN if _speedup_of_onednn() >= MIN_SPEEDUP else default_backend()


@lru_cache(maxsize=1)
def onednn_is_float32() -> bool:
    """Whether torch can use oneDNN here and its products are as exact as float32.

    torch hands float32 products to oneDNN only where it may round their inputs to bfloat16. oneDNN
    does so on processors with matrix units for bfloat16 (AMX), and computes in float32 elsewhere.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    with _temporarily(ONEDNN):
        return all(_is_float32(a, b) for _, a, b in _trial_products())


def _is_float32(a: Tensor, b: Tensor) -> bool:
    """Whether the library in use multiplies `a` and `b` to float32's precision."""
    exact = a.double() @ b.double()
    return bool(((a @ b) - exact).norm() / exact.norm() < MAX_RELATIVE_ERROR)


def _onednn_gives_the_same_bits() -> bool:
    """Whether both libraries give equal products in the trial: then they are the same library."""
    results: dict[str, list[Tensor]] = {}
    for backend in (default_backend(), ONEDNN):
        with _temporarily(backend):
            results[backend] = [a @ b for _, a, b in _trial_products()]
    return all(one.equal(other) for one, other in zip(*results.values()))


def _speedup_of_onednn() -> float:
    """Time of the default library over oneDNN's: the median over the trial's products.

    Calls of the two libraries alternate on one thread, and the shortest processor time of each
    counts, so other programs hardly affect the result.
    """
    backends = default_backend(), ONEDNN
    ratios = []
    with one_thread():
        for n_calls, a, b in _trial_products():
            shortest = dict.fromkeys(backends, math.inf)
            for _ in range(TRIAL_REPEATS):
                for backend in backends:
                    with _temporarily(backend):
                        seconds = thread_seconds(lambda a=a, b=b: a @ b, n_calls)  # type: ignore[misc]
                    shortest[backend] = min(shortest[backend], seconds)
            ratios.append(shortest[backends[0]] / shortest[backends[1]])
    return median(ratios)


def _trial_products() -> Iterator[tuple[int, Tensor, Tensor]]:
    """(calls worth timing at once, a, b) of a linear layer: forward and both of its gradients."""
    generator = torch.Generator().manual_seed(0)
    for n_rows, n_in, n_out in TRIAL_SHAPES:
        x = torch.randn(n_rows, n_in, generator=generator)
        weight = torch.randn(n_out, n_in, generator=generator)
        gradient = torch.randn(n_rows, n_out, generator=generator)
        n_calls = math.ceil(2**24 / (n_rows * n_in * n_out))
        yield n_calls, x, weight.T
        yield n_calls, gradient, weight
        yield n_calls, gradient.T, x


def _switch(backend: str) -> None:
    """Set torch's process-wide setting."""
    _KNOB.fp32_precision = "bf16" if backend == ONEDNN else _DEFAULT_PRECISION


@contextmanager
def _temporarily(backend: str) -> Iterator[None]:
    """Use a library inside the block."""
    before = _KNOB.fp32_precision
    _switch(backend)
    try:
        yield
    finally:
        _KNOB.fp32_precision = before


def onednn_precision() -> str:
    """Which float32 precision oneDNN is set to now, as torch names it; timings depend on it."""
    return str(_KNOB.fp32_precision)
