"""Measure how many runs at a time finish soonest on this machine.

One run uses all cores or the whole GPU. A small model gains little from a second core, so two
processes with half of the threads each may finish sooner. They may also be slower, since they
share caches and memory. So steps are timed both ways, in processes that run at the same time.
Tests: tests/experiments/test_concurrency.py.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from llm_scratch.config import load_config
from llm_scratch.formatting import counted
from llm_scratch.hardware.benchmark import matmul_flops
from llm_scratch.planning.step_timing import estimate_step_time
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.storage.worker_processes import can_have_workers, worker_pool

TIMING_SECONDS = 2.0
START_SECONDS = 120.0
"""Time after which a process that has not started is given up."""

StepRate = Callable[[int, int], float]
"""Steps a second of all processes together, for their number and the threads of each."""


@dataclass(frozen=True)
class Concurrency:
    """How many runs to make at a time, and why."""

    at_once: int
    reason: str


def choose_concurrency(
    settings: Path, files: Sequence[str], device: str, max_runs: int
) -> Concurrency:
    """Choose how many runs to make at a time on this machine: one for each GPU, or as measured.

    Args:
        settings: file with the settings of a run, whose steps are timed.
        files: Python files to run before the settings are read.
        device: "cpu", "cuda" or "mps".
        max_runs: number of runs that are left.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        n = min(torch.cuda.device_count(), max_runs)
        return Concurrency(n, f"{counted(n, 'run')} at a time, one for each GPU")
    threads = torch.get_num_threads()
    if kind != "cpu" or threads == 1 or max_runs == 1 or not can_have_workers():
        return Concurrency(1, "one run at a time: there is nothing to share among several")
    return fastest(process_counts(threads, max_runs), threads, _StepTimer(settings, files))


def process_counts(threads: int, max_runs: int) -> list[int]:
    """Numbers of processes to try: 1, 2, 4, ..., and one for each thread."""
    powers = {2**i for i in range(threads.bit_length())}
    return sorted(n for n in powers | {threads} if n <= min(threads, max_runs))


def fastest(counts: Sequence[int], threads: int, step_rate: StepRate) -> Concurrency:
    """The number of processes that make the most steps a second together.

    Args:
        counts: numbers of processes to try; the first is 1.
        threads: to share among the processes.
        step_rate: measures the steps a second.
    """
    rates = {n: step_rate(n, threads // n) for n in counts}
    best = max(counts, key=lambda n: rates[n])
    measured = ", ".join(
        f"{rates[n]:.3g} with {counted(n, 'run')} of {counted(threads // n, 'thread')}"
        for n in counts
    )
    return Concurrency(
        best, f"{counted(best, 'run')} at a time; measured steps a second: {measured}"
    )


@dataclass(frozen=True)
class _StepTimer:
    """Times steps in processes that run at the same time; a `StepRate`.

    Attributes:
        settings, files: as in `choose_concurrency`.
    """

    settings: Path
    files: Sequence[str]

    def __call__(self, n: int, threads: int) -> float:
        """Steps a second of `n` processes together."""
        barrier = multiprocessing.get_context("spawn").Barrier(n)
        rate = matmul_flops(torch.device("cpu"))
        with worker_pool(n, _keep_barrier, (barrier,)) as pool:
            work = (str(self.settings), tuple(self.files), threads, rate)
            if pool is None:  # 1 process: this one
                return 1 / _time_steps(*work) if n == 1 else 0.0
            timings = [pool.submit(_time_steps, *work) for _ in range(n)]
            return sum(1 / timing.result() for timing in timings)


_barriers: list[Barrier] = []
"""In a worker process: the barrier at which all workers wait for each other."""


def _keep_barrier(barrier: Barrier) -> None:
    _barriers.append(barrier)


def _time_steps(settings: str, files: tuple[str, ...], threads: int, rate: float) -> float:
    """Seconds of a step, once all processes are ready."""
    for file in files:
        run_user_file(Path(file), file)
    config = load_config(Path(settings))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for barrier in _barriers:
            barrier.wait(START_SECONDS)
        return estimate_step_time(config, torch.device("cpu"), rate, TIMING_SECONDS).seconds
    finally:
        torch.set_num_threads(before)
