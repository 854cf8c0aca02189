"""Collect the contents of a report from the files of a run directory, each of which may be missing.

Tests: tests/reports/test_contents.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from llm_scratch.evaluation.floor import Floor, loss_floor
from llm_scratch.evaluation.skill_results import SkillResults, read_skills
from llm_scratch.planning.plan import Plan, measured, read_plan
from llm_scratch.presets import preset
from llm_scratch.reports.chart import LossLines
from llm_scratch.reports.diagnosis import Finding, diagnose
from llm_scratch.reports.plot import running_mean, series
from llm_scratch.reports.settings import Change, changes, nearest_preset
from llm_scratch.run_directory import RunInfo, Sample, open_run
from llm_scratch.training.lock import is_locked

MAX_SAMPLES = 8

T = TypeVar("T")
State = Literal[
    "finished", "running", "stopped", "diverged", "not started", "imported", "quantized"
]


@dataclass(frozen=True)
class RunReport:
    """The contents of the page.

    Attributes:
        run: settings and counters of the run directory.
        state: of the training.
        step: the last one in the metrics.
        rows: of metrics.jsonl, only their finite numbers.
        lines: the loss chart's.
        floor: of the loss, if the entropy of the text is known.
        findings: check -> its finding.
        samples: at most `MAX_SAMPLES`, with the first and the last; `n_samples` is the number of
            all.
        skills: of a model of the stories.
        plan: the prediction; None for a run without a plan.
        measured: values of the run, under the names of `Plan`.
        preset: the nearest preset; `changes` are the differences from it.
        environment: of env.json.
    """

    run: RunInfo
    state: State
    step: int
    rows: tuple[dict[str, float], ...]
    lines: LossLines
    floor: Floor | None
    findings: dict[str, Finding]
    samples: tuple[Sample, ...]
    n_samples: int
    skills: SkillResults | None
    plan: Plan | None
    measured: dict[str, float]
    preset: str
    changes: list[Change]
    environment: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the run directory."""
        return self.run.path.resolve().name

    @property
    def evaluations(self) -> list[dict[str, float]]:
        """The rows with a validation loss."""
        return [row for row in self.rows if "val_loss" in row]

    @property
    def tokens(self) -> float:
        """Tokens that were trained on."""
        return max((row.get("tokens", 0) for row in self.rows), default=0)


def collect(path: Path) -> RunReport:
    """Read a run directory.

    Raises:
        UserError: `path` is not a run directory (exit code 4).
    """
    run = open_run(path)
    rows = [_numbers(row) for row in run.metrics]
    floor = loss_floor(run.config, rows)
    skills = read_skills(path)
    base = nearest_preset(run.config, run.preset)
    step = int(max((row["step"] for row in rows), default=run.step))
    return RunReport(
        run=run,
        state=_state(run, rows, step),
        step=step,
        rows=tuple(rows),
        lines=_lines(rows, floor),
        floor=floor,
        findings=diagnose(rows, run.config, skills) if rows else {},
        samples=tuple(spread_out(run.samples, MAX_SAMPLES)),
        n_samples=len(run.samples),
        skills=skills,
        plan=read_plan(path),
        measured=measured(rows),
        preset=base,
        changes=changes(run.config, preset(base)),
        environment=run.environment,
    )


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a row."""
    return {
        key: value
        for key, value in row.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _state(run: RunInfo, rows: Sequence[dict[str, float]], step: int) -> State:
    """The state of the training."""
    if run.bits != 32:
        return "quantized"
    if is_locked(run.path):
        return "running"
    if any(row.get("diverged") for row in rows):
        return "diverged"
    if run.finished:
        return "finished"
    if run.origin and not step:
        return "imported"
    return "stopped" if rows or run.step else "not started"


def _lines(rows: Sequence[dict[str, float]], floor: Floor | None) -> LossLines:
    """The lines of the loss chart.

    Without training losses at evaluations, the running mean of the batches is used.
    """
    batch = series(rows, "step", "loss")
    train = series(rows, "step", "train_loss")
    return LossLines(
        batch=batch,
        train=train if train.size else running_mean(batch),
        val=series(rows, "step", "val_loss"),
        floor=None if floor is None else floor.nats_per_token,
    )


def spread_out(samples: Sequence[T], n: int) -> list[T]:
    """At most `n` of the items, evenly spaced, with the first and the last."""
    if len(samples) <= n:
        return list(samples)
    return [samples[round(i * (len(samples) - 1) / (n - 1))] for i in range(n)]
