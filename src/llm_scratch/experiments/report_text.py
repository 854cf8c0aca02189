"""Sentences and table rows of an experiment's report, for its HTML and its Markdown form.

Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_scratch.experiments.contents import ExperimentReport
from llm_scratch.experiments.experiment import dump_experiment
from llm_scratch.experiments.statistics import ALPHA_SPENDING_RULE
from llm_scratch.experiments.verdict import format_value
from llm_scratch.formatting import format_count, format_duration, shell_command
from llm_scratch.reports.html import Html

MAX_TITLE = 80
"""characters"""


def report_title(report: ExperimentReport) -> str:
    """The arms, if their names are short enough for a heading."""
    arms = report.experiment.arms
    names = " vs ".join(arm.name for arm in arms)
    if len(names) <= MAX_TITLE:
        return names
    return f"{len(arms)} arms from {Path(report.experiment.base).name}"


def summary(report: ExperimentReport) -> str:
    """What was compared, in a sentence."""
    experiment = report.experiment
    better = "higher" if report.metric.higher_is_better else "lower"
    return (
        f"{len(experiment.arms)} arms from {Path(experiment.base).name}, each with"
        f" {len(experiment.seeds)} seeds; {report.metric.name}, where {better} is better; the"
        f" reference is {experiment.arms[0].name}."
    )


def arm_rows(report: ExperimentReport) -> list[tuple[str | Html, ...]]:
    """A row for each arm: mean, spread and number of its runs."""
    rows: list[tuple[str | Html, ...]] = []
    for arm in report.arms:
        mean = "–" if arm.mean is None else format_value(arm.mean)
        sd = "–" if arm.sd is None else format_value(arm.sd)
        rows.append((arm.arm, mean, sd, str(arm.n_runs), str(arm.n_failed)))
    return rows


def cost_rows(report: ExperimentReport) -> list[tuple[str | Html, ...]]:
    """A row for each arm: tokens, FLOPs and time of a run."""
    rows: list[tuple[str | Html, ...]] = []
    for arm in report.arms:
        if arm.values:
            counts = format_count(arm.tokens), format_count(arm.flops)
            rows.append((arm.arm, *counts, format_duration(arm.seconds)))
        else:
            rows.append((arm.arm, "–", "–", "–"))
    return rows


def format_setting(value: Any) -> str:
    """The value of a setting, for people."""
    return "none" if value is None else str(value)


def failure_lines(report: ExperimentReport) -> list[str]:
    """A line for each run that did not finish, with the reason."""
    return [
        f"{result.arm}, seed {result.seed}: {result.reason}"
        for result in report.results
        if result.state != "finished"
    ]


def method_paragraphs(report: ExperimentReport) -> list[str]:
    """How the verdicts were found."""
    budget = report.experiment.budget
    spent = "its own steps" if budget.unit == "none" else f"the same {budget.unit}"
    words = [
        (
            f"Every arm trained with the same seeds, and with {spent} in each run. A seed gives the"
            " same order of the text, and the same first weights where shapes agree. The"
            " difference of an arm is the mean of its differences from the reference, seed by"
            " seed."
        ),
        (
            "A difference is shown if the paired t-test, corrected for several arms by Holm's"
            " method, is below the level of its analysis. It is ruled out if two one-sided tests"
            " place it within the smallest difference that matters. A run that diverged or failed"
            f" counts against its arm. {ALPHA_SPENDING_RULE} The 95 % intervals of all arms in all"
            " analyses cover the truth together; with several arms they are a little wider than the"
            " test."
        ),
    ]
    if report.experiment.search:
        names = ", ".join(name for name, _ in report.experiment.search)
        words.append(
            f"{names} was tuned for every arm over the same values,"
            " with another seed and another half of the validation text."
        )
    words += report.search_warnings
    return words


def reproduce(report: ExperimentReport) -> tuple[str, str]:
    """The command that runs the experiment again, and its file."""
    command = shell_command(
        "experiment", "run", report.folder / "experiment.yaml", "--out", f"{report.folder}-again"
    )
    return command, dump_experiment(report.experiment).strip()
