"""The report of an experiment as Markdown.

Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

from llm_scratch.experiments.contents import ExperimentReport
from llm_scratch.experiments.page import markdown_table
from llm_scratch.experiments.report_text import (
    arm_rows,
    cost_rows,
    failure_lines,
    format_setting,
    method_paragraphs,
    report_title,
    reproduce,
    summary,
)
from llm_scratch.experiments.verdict import format_value


def render_markdown(report: ExperimentReport) -> str:
    """The report as Markdown."""
    command, text = reproduce(report)
    header = ("arm", report.metric.name, "SD over seeds", "runs", "not finished")
    values = [
        (arm.arm, *(_cell(arm.values.get(seed)) for seed in report.experiment.seeds))
        for arm in report.arms
    ]
    seeds = ("arm", *(f"seed {seed}" for seed in report.experiment.seeds))
    parts = [
        f"# {report_title(report)}",
        "\n".join(f"- {comparison.sentence}" for comparison in report.comparisons),
        summary(report),
        "## Arms",
        markdown_table(header, arm_rows(report)),
        "## Every run",
        markdown_table(seeds, values),
        "## Cost of a run",
        markdown_table(("arm", "tokens", "FLOPs", "time"), cost_rows(report)),
    ]
    if report.differing:
        names = ("setting", *(arm.name for arm in report.experiment.arms))
        rows = [(name, *map(format_setting, each)) for name, each in report.differing.items()]
        parts += ["## Settings that differ", markdown_table(names, rows)]
    if lines := failure_lines(report):
        parts += ["## Runs that did not finish", "\n".join(f"- {line}" for line in lines)]
    parts += [
        "## How it was judged",
        *method_paragraphs(report),
        "## Reproduce",
        f"```\n{command}\n```",
        f"```yaml\n{text}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(value: float | None) -> str:
    return "–" if value is None else format_value(value)
