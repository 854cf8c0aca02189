"""Time a step of each arm in interleaved rounds, so that other load affects all arms equally.

A budget in seconds is converted to steps, the same for all seeds of an arm. If the arms were timed
one after the other, one that was timed while another program ran would have too few steps in all
of its runs. So they are timed in rounds, each in another order. What counts is an arm's time
divided by that of the reference in the same round, and of those ratios the median, which a few
disturbed rounds hardly change. On one thread of a CPU the processor time of the thread counts,
which other load hardly changes at all.
Tests: tests/experiments/test_step_seconds.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from llm_scratch.config import DataConfig, RunConfig, TrainConfig
from llm_scratch.hardware.benchmark import matmul_dtype, matmul_flops
from llm_scratch.hardware.thread_timer import thread_clock
from llm_scratch.planning.step_timing import estimate_step_time

ROUNDS = 5
TIMING_SECONDS = 1.0
"""For each arm in each round."""


def step_seconds(
    configs: Sequence[RunConfig], device: str = "cpu", rounds: int = ROUNDS
) -> list[float]:
    """Seconds of an optimizer step on full rows for each of these settings.

    Settings that do not change the work of a step, such as the learning rate, give the same time.

    Args:
        configs: settings of each arm; the first is the reference.
        device: on which to measure.
        rounds: in each of which every arm is timed once.
    """
    place = torch.device(device)
    rate = matmul_flops(place, matmul_dtype(place))
    clock = thread_clock() if place.type == "cpu" and torch.get_num_threads() == 1 else None

    def time_step(config: RunConfig) -> float:
        return estimate_step_time(config, place, rate, TIMING_SECONDS, clock=clock).seconds

    parts = [_timed_part(config) for config in configs]
    distinct = list(dict.fromkeys(parts))
    seconds = dict(zip(distinct, interleaved_seconds(distinct, time_step, rounds), strict=True))
    return [seconds[part] for part in parts]


def interleaved_seconds(
    configs: Sequence[RunConfig], time_step: Callable[[RunConfig], float], rounds: int
) -> list[float]:
    """The median time of the first, and for the others that times their median ratio to it.

    Args:
        configs: what is timed.
        time_step: measures one of them, in seconds.
        rounds: see `step_seconds`.
    """
    n = len(configs)
    times = np.empty((rounds, n))
    for number in range(rounds):
        for i in range(n):
            arm = (number + i) % n
            times[number, arm] = time_step(configs[arm])
    reference = times[:, :1]
    ratios = np.median(times / reference, axis=0)
    return [float(seconds) for seconds in np.median(reference) * ratios]


def _timed_part(config: RunConfig) -> RunConfig:
    """The settings with defaults for all that does not change the work of a step."""
    timed = ("batch_size", "micro_batches", "optimizer", "grad_clip")
    train = TrainConfig(**{name: getattr(config.train, name) for name in timed})
    return replace(config, data=DataConfig(), train=train)
