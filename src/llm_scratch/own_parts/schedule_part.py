"""Check a learner's learning rate against the package's schedule.

The mistakes of the linear schedule are those of exercise 6.2.
Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llm_scratch.config import TrainConfig
from llm_scratch.learn.registry import find_exercise
from llm_scratch.learn.sealed import open_sealed
from llm_scratch.own_parts.verdict import OUTPUT, Verdict, compare
from llm_scratch.training.schedule import SCHEDULES, learning_rate

EXERCISE = "6.2"
TRIALS = 40


def check_learning_rate(theirs: Any, cfg: TrainConfig) -> Verdict:
    """Compare a `learning_rate(step, total, peak, warmup)` with the schedule of a run."""

    def ours(step: int, total: int, peak: float, warmup: int) -> float:
        return learning_rate(step, total, replace(cfg, lr=peak, min_lr=0.0, warmup_steps=warmup))

    mistakes = open_sealed(EXERCISE).mistakes if cfg.schedule == "linear" else _others(cfg.schedule)
    exercise = find_exercise(EXERCISE)
    return compare(
        "learning_rate",
        lambda *case: {OUTPUT: theirs(*case)},
        lambda *case: {OUTPUT: ours(*case)},
        [exercise.inputs(trial) for trial in range(TRIALS)],
        mistakes,
    )


def _others(schedule: str) -> list[Any]:
    """The other schedules of the package, as mistakes."""

    def other(name: str) -> Any:
        def mistake(step: int, total: int, peak: float, warmup: int) -> float:
            cfg = TrainConfig(lr=peak, warmup_steps=warmup, schedule=name)
            return learning_rate(step, total, cfg)

        mistake.__doc__ = f"It is the {name} schedule; this run has train.schedule={schedule}."
        return mistake

    return [other(name) for name in SCHEDULES if name != schedule]
