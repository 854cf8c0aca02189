"""How fast this machine multiplies matrices and reads memory.

Rates are measured, never looked up in a table of chips: what counts is what this machine gives this
process now.
Tests: tests/hardware/test_benchmark.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter

import torch

from llm_scratch.hardware.matmul_backend import select_matmul_backend

# rows and columns of the matrices multiplied: large enough for full speed
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192, "mps": 4096}


def repeat_timings(
    work: Callable[[], object],
    device: torch.device,
    seconds: float,
    clock: Callable[[], float] | None = None,
) -> list[float]:
    """Call `work` for about `seconds`; returns the seconds of each call, at least two.

    One more call before them warms up.

    Args:
        work: what is timed.
        device: on which it computes.
        seconds: of the wall clock.
        clock: measures a call (default: the wall clock).
    """
    clock = clock or perf_counter
    times: list[float] = []
    began = perf_counter()
    while len(times) < 3 or perf_counter() - began < seconds:
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        times.append(clock() - start)
    return times[1:]


def best_time(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest of `repeat_timings`, in seconds: the speed of the machine without other load."""
    return min(repeat_timings(work, device, seconds))


def matmul_flops(
    device: torch.device, dtype: torch.dtype = torch.float32, seconds: float = 0.15
) -> float:
    """FLOP/s of a large matrix product by the library in use: an upper bound for everything else.

    Measured once for each library; `measure_matmul_flops` measures again.
    """
    backend = select_matmul_backend() if device.type == "cpu" else ""
    return _matmul_flops(str(device), dtype, seconds, torch.get_num_threads(), backend)


@lru_cache
def _matmul_flops(
    device: str, dtype: torch.dtype, seconds: float, threads: int, backend: str
) -> float:
    return measure_matmul_flops(torch.device(device), dtype, seconds)


def measure_matmul_flops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of a large matrix product now: the fastest of those that fit into `seconds`."""
    if device.type == "cpu":
        select_matmul_backend()
    n = MATMUL_SIZE.get(device.type, MATMUL_SIZE["cpu"])
    # random values: a GPU multiplies constants up to an eighth faster,
    # as its power limit then leaves it a higher clock
    a = (
        torch.empty(n, n, device=device)
        .normal_(generator=torch.Generator(device).manual_seed(0))
        .to(dtype)
    )
    out = torch.empty(n, n, device=device, dtype=dtype)
    return 2 * n**3 / best_time(lambda: torch.mm(a, a, out=out), device, seconds)


def matmul_dtype(device: torch.device) -> torch.dtype:
    """The dtype whose matrix rate an MFU is measured against: bfloat16 on a GPU, else float32."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def read_bandwidth(device: torch.device, seconds: float = 0.15) -> float:
    """Bytes per second that a sum over a large tensor reads.

    It limits everything that is not a matrix product.
    """
    # not zeros: untouched zeros share one page
    x = torch.ones(2**30 if device.type == "cuda" else 2**25, device=device)
    return x.nbytes / best_time(x.sum, device, seconds)
