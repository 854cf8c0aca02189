"""The curves of a run as arrays, read from its metrics, with smoothing.

Tests: tests/reports/test_diagnosis.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_scratch.config import RunConfig
from llm_scratch.evaluation.floor import Floor, loss_floor
from llm_scratch.evaluation.skill_results import SkillResults


@dataclass(frozen=True)
class Curve:
    """The metrics of a run: arrays of steps and of evaluations; losses in nats per token."""

    config: RunConfig
    steps: np.ndarray
    """step of each row that has the loss of a batch, [n]"""
    loss: np.ndarray
    rate: np.ndarray
    """learning rate"""
    norm: np.ndarray
    """gradient norm"""
    eval_steps: np.ndarray
    """step of each evaluation, [m]"""
    train_loss: np.ndarray
    """loss on training text"""
    val_loss: np.ndarray
    """loss on validation text"""
    tokens: int
    """tokens trained on"""
    epochs: float | None
    """epochs of the training text"""
    skipped: list[int]
    """steps that were skipped because loss or gradient was bad"""
    rollbacks: int
    """rollbacks to a checkpoint"""
    diverged: int | None = None
    """step at which training ended because losses or weights were not finite"""
    bits_per_byte: float | None = None
    """of the validation text at the last evaluation"""
    floor: Floor | None = None
    """the lowest loss that a model can reach, if it is known"""
    skills: SkillResults | None = None
    """measured on validation stories after training"""

    @classmethod
    def of(
        cls,
        rows: Sequence[Mapping[str, Any]],
        config: RunConfig,
        skills: SkillResults | None = None,
    ) -> Curve:
        """The curve of a run from the rows of its metrics.jsonl and its skills, if it has any."""
        steps = [row for row in rows if _finite(row.get("loss")) and row["step"] > 0]
        evaluations = [
            row for row in rows if _finite(row.get("val_loss")) and _finite(row.get("train_loss"))
        ]

        def column(of: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
            return np.array([row.get(name, math.nan) for row in of], dtype=float)

        return cls(
            config,
            column(steps, "step"),
            column(steps, "loss"),
            column(steps, "lr"),
            column(steps, "grad_norm"),
            column(evaluations, "step"),
            column(evaluations, "train_loss"),
            column(evaluations, "val_loss"),
            tokens=max((row.get("tokens", 0) for row in rows), default=0),
            epochs=max((row["passes"] for row in evaluations if "passes" in row), default=None),
            skipped=[row["step"] for row in rows if "skipped" in row],
            # "returns": an older run
            rollbacks=max(
                (int(row.get("rollbacks", row.get("returns", 0))) for row in rows), default=0
            ),
            diverged=_diverged_at(rows),
            bits_per_byte=next(
                (
                    row["val_bits_per_byte"]
                    for row in reversed(evaluations)
                    if _finite(row.get("val_bits_per_byte"))
                ),
                None,
            ),
            floor=loss_floor(config, evaluations),
            skills=skills,
        )

    @property
    def last_step(self) -> int:
        """The last step of any row."""
        return int(max([0, *self.steps[-1:], *self.eval_steps[-1:]]))

    @property
    def is_finished(self) -> bool:
        """Whether all steps of the run are done, according to the rows.

        A run of epochs counts as finished.
        """
        return self.config.train.epochs is not None or self.last_step >= self.config.train.steps

    @property
    def first_loss(self) -> float | None:
        """The loss of the untrained model: of an evaluation at step 0, or of the first step."""
        if self.eval_steps.size and self.eval_steps[0] == 0:
            return float(self.val_loss[0])
        return float(self.loss[0]) if self.steps.size and self.steps[0] == 1 else None

    @property
    def smooth(self) -> np.ndarray:
        """The running median of the loss over 1/20 of the run (at least 3 rows), [n]."""
        return running_median(self.loss, max(3, self.loss.size // 20 | 1))

    def between(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """The values of the rows from `low` to `high` of the run's steps (0 to 1)."""
        return values[(self.steps > low * self.last_step) & (self.steps <= high * self.last_step)]


def _diverged_at(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The step at which a run diverged.

    It is recorded; in older versions, the last evaluation is not finite.
    """
    evaluations = [row for row in rows if "val_loss" in row]
    if evaluations and not _finite(evaluations[-1]["val_loss"]):
        return int(evaluations[-1]["step"])
    return next((int(row["step"]) for row in rows if row.get("diverged")), None)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """The median of the `width` values around each, fewer at the ends: [n] -> [n]."""
    half = width // 2
    return np.array(
        [np.median(values[max(0, i - half) : i + half + 1]) for i in range(values.size)]
    )
