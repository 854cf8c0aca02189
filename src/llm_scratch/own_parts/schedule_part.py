"""Check a learner's learning rate against the package's schedule.

Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from llm_scratch.config import TrainConfig
from llm_scratch.own_parts.verdict import OUTPUT, Verdict, compare
from llm_scratch.training.schedule import SCHEDULES, learning_rate

TRIALS = 40
Rate = Callable[[int, int, float, int], float]
"""(step, total, peak, warmup) -> the learning rate of the step"""


def check_learning_rate(theirs: Any, cfg: TrainConfig) -> Verdict:
    """Compare a `learning_rate(step, total, peak, warmup)` with the schedule of a run."""
    ours = _scheduled(cfg.schedule)
    others = [_other(name, cfg.schedule) for name in SCHEDULES if name != cfg.schedule]
    return compare(
        "learning_rate",
        lambda *case: {OUTPUT: theirs(*case)},
        lambda *case: {OUTPUT: ours(*case)},
        _cases(),
        [*(_wrong(mistake, ours) for mistake in MISTAKES), *others],
    )


def _cases() -> list[tuple[Any, ...]]:
    """Steps of the warm-up and of the fall; the rates are large, so that a small error shows.

    The first cases have no warm-up, which is the default of a run.
    """
    rng = Random(9)
    cases: list[tuple[Any, ...]] = [(0, 12, 0.5, 0), (7, 12, 3.0, 0)]
    for trial in range(TRIALS):
        warmup = rng.randint(2, 9)
        total = warmup + rng.randint(5, 40)
        step = rng.randrange(warmup) if trial % 2 else rng.randrange(warmup, total)
        cases.append((step, total, rng.choice((0.02, 0.5, 3.0)), warmup))
    return cases


def _scheduled(name: str) -> Rate:
    def rate(step: int, total: int, peak: float, warmup: int) -> float:
        cfg = replace(TrainConfig(schedule=name), lr=peak, warmup_steps=warmup)
        return learning_rate(step, total, cfg)

    return rate


def _other(name: str, wanted: str) -> Rate:
    """Another schedule of the package, as a mistake."""
    rate = _scheduled(name)
    rate.__doc__ = f"It is the {name} schedule; this run has train.schedule={wanted}."
    return rate


def _wrong(mistake: Callable[..., float], ours: Rate) -> Rate:
    """A mistake that is made from the right rate."""

    def rate(*case: Any) -> float:
        return mistake(ours, *case)

    rate.__doc__ = mistake.__doc__
    return rate


def _starts_at_zero(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """Step 0 has the rate 0, so it does nothing; it already moves: (step + 1) / warmup."""
    return peak * step / warmup if step < warmup else ours(step, total, peak, warmup)


def _no_warmup(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """The warm-up is missing."""
    return peak if step < warmup else ours(step, total, peak, warmup)


def _falls_from_the_start(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """It measures the fall from step 0; the fall begins when the warm-up ends."""
    return ours(step, total, peak, warmup) if step < warmup else peak * (1 - step / total)


def _ends_early(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """The rate reaches 0 one step too early: it would be 0 at step `total`."""
    return ours(step, total if step < warmup else total - 1, peak, warmup)


def _no_peak(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """It gives the share of the highest rate; multiply by `peak`."""
    return ours(step, total, 1.0, warmup)


def _rises(ours: Rate, step: int, total: int, peak: float, warmup: int) -> float:
    """It rises after the warm-up; it should fall."""
    rate = ours(step, total, peak, warmup)
    return rate if step < warmup else peak - rate


MISTAKES: tuple[Callable[..., float], ...] = (
    _starts_at_zero,
    _no_warmup,
    _falls_from_the_start,
    _ends_early,
    _no_peak,
    _rises,
)
