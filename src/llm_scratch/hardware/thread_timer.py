"""Time work by the processor time of this thread, which other load hardly changes.

In wall time a single call takes many times longer on a busy machine, and a trial would measure that
load. With several threads, this thread may also wait for one that does not run.
Tests: tests/hardware/test_thread_timer.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch

CLOCK_READS = 1000
MIN_CLOCK_VALUES = 900
"""least distinct values in `CLOCK_READS` reads; a clock with fewer is too coarse for a trial"""


@contextmanager
def use_threads(n_threads: int) -> Iterator[None]:
    """Let torch compute on this number of threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Let torch compute on one thread inside the block."""
    return use_threads(1)


def thread_seconds(work: Callable[[], object], n_calls: int = 1) -> float:
    """Processor seconds of this thread for `n_calls` calls of `work`."""
    clock = thread_clock()
    start = clock()
    for _ in range(n_calls):
        work()
    return clock() - start


@cache
def thread_clock() -> Callable[[], float]:
    """Processor time of the thread, or the wall clock where processor time has coarse steps.

    On Windows a step is 16 ms, longer than most trials: they would take 0 s.
    """
    values = {time.thread_time() for _ in range(CLOCK_READS)}
    return time.thread_time if len(values) >= MIN_CLOCK_VALUES else time.perf_counter
