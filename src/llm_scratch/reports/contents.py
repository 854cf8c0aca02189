"""Collect the contents of a report from the files of a run directory, each of which may be missing.

Tests: tests/reports/test_contents.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.evaluation.floor import Floor, loss_floor
from llm_scratch.evaluation.skill_results import SkillResults, read_skills
from llm_scratch.planning.plan import Plan, measured, read_plan
from llm_scratch.presets import preset
from llm_scratch.reports.chart import LossLines
from llm_scratch.reports.diagnosis import Finding, diagnose
from llm_scratch.reports.plot import running_mean, series
from llm_scratch.reports.settings import Change, changes, nearest_preset
from llm_scratch.run_directory import RunInfo, load_run_info
from llm_scratch.training.lock import is_locked
from llm_scratch.training.run_logger import iter_metrics

MAX_SAMPLES = 8
SAMPLE_HEADING = re.compile(r"^## Step (\d+), ([\d,]+) tokens$", re.M)

T = TypeVar("T")
State = Literal["finished", "running", "stopped", "diverged", "not started", "imported", "quantized"]


@dataclass(frozen=True)
class Sample:
    """A text that the model generated during training."""

    step: int
    tokens: str
    text: str


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
        UserError: there is no run in `path` (exit code 4).
    """
    run = load_run_info(path)
    if run is None:
        raise UserError(
            f"{path} is not a run directory (no readable config.yaml); `llm-scratch runs list` lists the runs",
            CHECKPOINT,
        )
    rows = [_numbers(row) for row in iter_metrics(path / "metrics.jsonl")]
    floor = loss_floor(run.config, rows)
    skills = read_skills(path)
    base = nearest_preset(run.config, run.preset)
    samples = read_samples(path)
    step = int(max((row["step"] for row in rows), default=run.step))
    return RunReport(
        run=run,
        state=_state(run, rows, step),
        step=step,
        rows=tuple(rows),
        lines=_lines(rows, floor),
        floor=floor,
        findings=diagnose(rows, run.config, skills) if rows else {},
        samples=tuple(spread_out(samples, MAX_SAMPLES)),
        n_samples=len(samples),
        skills=skills,
        plan=read_plan(path),
        measured=measured(rows),
        preset=base,
        changes=changes(run.config, preset(base)),
        environment=_environment(path),
    )


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of a row."""
    return {key: value for key, value in row.items() if isinstance(value, (int, float)) and math.isfinite(value)}


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
    """The lines of the loss chart; without training losses at evaluations, the running mean of the batches is used."""
    batch = series(rows, "step", "loss")
    train = series(rows, "step", "train_loss")
    return LossLines(
        batch=batch,
        train=train if train.size else running_mean(batch),
        val=series(rows, "step", "val_loss"),
        floor=None if floor is None else floor.nats_per_token,
    )


def read_samples(run: Path) -> list[Sample]:
    """The samples in samples.md, oldest first.

    A line inside a sample that looks like a heading counts as one only if its step is later than
    the previous one.
    """
    try:
        text = (run / "samples.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    headings: list[re.Match[str]] = []
    for heading in SAMPLE_HEADING.finditer(text):
        if not headings or int(heading[1]) > int(headings[-1][1]):
            headings.append(heading)
    starts = [heading.start() for heading in headings] + [len(text)]
    return [
        Sample(int(heading[1]), heading[2], text[heading.end() : end].strip()) for heading, end in zip(headings, starts[1:], strict=True)
    ]


def spread_out(samples: Sequence[T], n: int) -> list[T]:
    """At most `n` of the items, evenly spaced, with the first and the last."""
    if len(samples) <= n:
        return list(samples)
    return [samples[round(i * (len(samples) - 1) / (n - 1))] for i in range(n)]


def _environment(run: Path) -> dict[str, Any]:
    """The content of env.json; {} if it is missing or invalid."""
    try:
        values = json.loads((run / "env.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
