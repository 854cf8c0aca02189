"""Learning-rate schedules with warmup: constant, linear and cosine.

A schedule maps the progress after the warmup, 0 to 1, to a factor from 1 (the highest rate) to 0
(the lowest). To add one, write `f(done) -> float`, then `SCHEDULES["mine"] = f` and train with
`--train.schedule mine`.
Tests: tests/training/test_schedule.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llm_scratch.config import TrainConfig
from llm_scratch.errors import unknown


def constant(done: float) -> float:
    """Stay at the highest rate."""
    return 1.0


def linear(done: float) -> float:
    """Fall linearly."""
    return 1 - done


def cosine(done: float) -> float:
    """Fall like half a cosine wave.

    Source: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983.
    """
    return 0.5 * (1 + math.cos(math.pi * done))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
}
"""Name -> function: share of the run that is done, 0 to 1 -> share of the highest learning rate."""


RATES: dict[str, Callable[[int, int, float, int], float]] = {}
"""Name of a schedule -> function of (step, total, peak, warmup) that gives the learning rate of a
step, the warmup included; it goes before `SCHEDULES`.
"""


def learning_rate(step: int, total: int, cfg: TrainConfig) -> float:
    """The learning rate of one step, counted from 0.

    Raises:
        UserError: an unknown schedule; names the nearest.
    """
    if cfg.schedule not in SCHEDULES:
        raise unknown("schedule", cfg.schedule, SCHEDULES, extensible=True)
    if cfg.schedule in RATES:
        return float(RATES[cfg.schedule](step, total, cfg.lr, cfg.warmup_steps))
    if step < cfg.warmup_steps:
        return cfg.lr * (step + 1) / cfg.warmup_steps
    done = (step - cfg.warmup_steps) / max(1, total - cfg.warmup_steps)
    return cfg.min_lr + (cfg.lr - cfg.min_lr) * SCHEDULES[cfg.schedule](min(done, 1.0))
