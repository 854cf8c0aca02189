"""Report of a scaling law: sentences, and a page in HTML and Markdown.

Tests: tests/experiments/test_scaling_report.py, tests/cli/test_scaling.py.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from llm_scratch.experiments.contents import first_environment
from llm_scratch.experiments.marks import legend
from llm_scratch.experiments.page import figure, html_page, markdown_table, save_pages, section
from llm_scratch.experiments.scaling_charts import (
    budget_styles,
    estimates_chart,
    residuals_chart,
    sizes_chart,
)
from llm_scratch.experiments.scaling_runner import ScalingOutcome
from llm_scratch.formatting import format_count, format_duration
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.tables import environment_table

RUN_COLUMNS = ("run", "parameters", "tokens", "bits per byte", "law", "error")
BEST_COLUMNS = ("budget", "by the law", "by the parabola")
METHOD = (
    "The law is fitted by least squares: for given exponents E, A and B are solved exactly, and the"
    " exponents are searched from several starts. Intervals resample the errors of the fit. The"
    " parabola goes through the losses of one budget over log parameters; it is biased where the"
    " true curve is not symmetric about its minimum. The prediction was written before its run was"
    " trained, and its interval includes the noise of a single run."
)


def law_lines(outcome: ScalingOutcome) -> list[str]:
    """The law, its floor, the best sizes and the prediction, in sentences."""
    law, fit = outcome.fit.law, outcome.fit
    low, high = fit.interval("E")
    lines = [
        (
            f"L = {law.E:.4f} + {law.A:.3g} / N^{law.a:.3f} + {law.B:.3g} / D^{law.b:.3f} bits per"
            f" byte, off by {fit.residual:.4f}."
        ),
        f"E is {low:.4f} to {high:.4f} (95 % bootstrap interval).",
    ]
    if not fit.describes:
        lines.append(
            f"The law does not describe these runs: its errors are {fit.residual / fit.spread:.0%}"
            " of the differences between them. Train longer: the first steps of a run follow"
            " another curve."
        )
    if outcome.floor is not None:
        inside = "covers" if low <= outcome.floor <= high else "misses"
        lines.append(
            f"The true E is {outcome.floor:.4f}, the entropy of the text; the interval {inside} it."
        )
    for budget, (by_law, parabola) in outcome.best_sizes.items():
        other = "no minimum among the sizes" if parabola is None else format_count(parabola)
        lines.append(
            f"Best size for {format_count(budget)}FLOP:"
            f" {format_count(by_law)} parameters by the law; by a parabola: {other}."
        )
    prediction = outcome.prediction
    if prediction is not None and prediction.measured is not None:
        inside = "inside" if prediction.low <= prediction.measured <= prediction.high else "outside"
        lines.append(
            f"Predicted for {format_count(prediction.parameters)} parameters and"
            f" {format_count(prediction.tokens)} tokens: {prediction.loss:.4f}"
            f" ({prediction.low:.4f} to {prediction.high:.4f}); measured {prediction.measured:.4f},"
            f" {inside} the interval, off by {prediction.measured - prediction.loss:+.4f}."
        )
    return lines


def run_rows(outcome: ScalingOutcome) -> list[tuple[str | Html, ...]]:
    """A row for each run of the grid, as `RUN_COLUMNS`."""
    rows: list[tuple[str | Html, ...]] = []
    for parameters, result in outcome.runs:
        assert result.value is not None
        fitted = float(outcome.fit.law.loss(parameters, result.tokens))
        counts = format_count(parameters), format_count(result.tokens)
        error = f"{result.value - fitted:+.4f}".replace("-", "−")
        rows.append((result.arm, *counts, f"{result.value:.4f}", f"{fitted:.4f}", error))
    return rows


def _best_rows(outcome: ScalingOutcome) -> list[tuple[str | Html, ...]]:
    """A row for each budget, as `BEST_COLUMNS`."""
    return [
        (
            f"{format_count(budget)}FLOP",
            "–" if math.isnan(law) else format_count(law),
            "no minimum" if parabola is None else format_count(parabola),
        )
        for budget, (law, parabola) in outcome.best_sizes.items()
    ]


def write_scaling_report(outcome: ScalingOutcome, name: str, folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.md into the folder of the grid; returns their paths."""
    title = f"Scaling law: {name}"
    return save_pages(folder, _page(outcome, title, folder), _markdown(outcome, title))


def _summary(outcome: ScalingOutcome) -> str:
    """What was run, in a sentence."""
    results = [result for _, result in outcome.runs]
    return (
        f"{len(results)} runs of {len({n for n, _ in outcome.runs})} sizes with"
        f" {len(outcome.best_sizes)} budgets:"
        f" {format_count(sum(result.flops for result in results))}FLOP,"
        f" {format_duration(sum(result.seconds for result in results))}."
    )


def _page(outcome: ScalingOutcome, title: str, folder: Path) -> str:
    lines = [element("li", line) for line in law_lines(outcome)]
    header = element(
        "header",
        element("h1", title),
        element("ul", *lines, class_="verdicts"),
        element("p", _summary(outcome), class_="dim"),
    )
    names = [f"{format_count(budget)}FLOP" for budget in outcome.best_sizes]
    budgets = legend(names, budget_styles(outcome))
    sizes = (
        "A dot is a run, the solid line the law, the dashed line the parabola. Below: the best"
        " size of each budget, by the law (dot) and by the parabola (ring), if it is in the chart."
    )
    errors = "Measured loss less that of the law. Errors with a pattern mean that the law is wrong."
    known = (
        "A dot is fitted or predicted, the bar its 95 % interval; the ring is the true E where it"
        " is known, and the loss of the larger run as measured."
    )
    sections = [
        header,
        section("Size and loss", figure(partial(sizes_chart, outcome), sizes, budgets)),
        section("Errors of the law", figure(partial(residuals_chart, outcome), errors, budgets)),
        section("Graded", figure(partial(estimates_chart, outcome), known)),
        section("Best sizes", table(BEST_COLUMNS, _best_rows(outcome), "numbers")),
        section("Every run", table(RUN_COLUMNS, run_rows(outcome), "numbers")),
        section("How it was found", element("p", METHOD)),
        environment_table(first_environment(folder, "*")),
    ]
    return html_page(f"{title}: report", sections)


def _markdown(outcome: ScalingOutcome, title: str) -> str:
    parts = [
        f"# {title}",
        "\n".join(f"- {line}" for line in law_lines(outcome)),
        _summary(outcome),
        "## Best sizes",
        markdown_table(BEST_COLUMNS, _best_rows(outcome)),
        "## Every run",
        markdown_table(RUN_COLUMNS, run_rows(outcome)),
        "## How it was found",
        METHOD,
    ]
    return "\n\n".join(parts) + "\n"
