"""Write the report of an experiment: an HTML page without network access or scripts, and Markdown.

`write_report` writes both from what `contents.collect` has read.
Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from llm_scratch.experiments.charts import (
    curves_chart,
    differences_chart,
    seeds_chart,
)
from llm_scratch.experiments.contents import ExperimentReport, collect
from llm_scratch.experiments.markdown_report import render_markdown
from llm_scratch.experiments.marks import legend
from llm_scratch.experiments.page import NARROW, figure, html_page, save_pages
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
from llm_scratch.experiments.verdict import Comparison, format_p, format_value
from llm_scratch.formatting import format_duration
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.tables import environment_table

BADGES = {
    "better": ("ok", "better"),
    "worse": ("problem", "worse"),
    "equivalent": ("", "equivalent"),
    "not shown": ("", "not shown"),
    "failures": ("warning", "runs failed"),
    "too early": ("warning", "too early"),
}


def write_report(folder: str | Path) -> tuple[Path, Path]:
    """Write report.html and report.md into an experiment's folder; returns their paths.

    Raises:
        UserError: there is no experiment, or it has no results yet.
    """
    return save_report(collect(folder))


def save_report(report: ExperimentReport) -> tuple[Path, Path]:
    """Write the pages of a report that is collected; returns their paths."""
    return save_pages(report.folder, render(report), render_markdown(report))


def render(report: ExperimentReport) -> str:
    """The page of a report."""
    sections = [
        make(report)
        for make in (_header, _seeds, _differences, _curves, _costs, _settings, _failures, _method)
    ]
    sections += [environment_table(report.environment), _reproduction(report)]
    return html_page(f"{report_title(report)}: experiment report", sections)


def _header(report: ExperimentReport) -> Html:
    """Name, verdict sentences and key figures."""
    changed = time.strftime(
        "%Y-%m-%d", time.localtime((report.folder / "results.json").stat().st_mtime)
    )
    items = [
        element("li", comparison.sentence, class_=comparison.verdict.replace(" ", "-"))
        for comparison in report.comparisons
    ]
    return element(
        "header",
        element("h1", report_title(report)),
        element("p", f"{report.folder.resolve()} · {changed}", class_="dim where"),
        element("ul", *items, class_="verdicts"),
        element("p", summary(report), class_="dim"),
        _tiles(report),
    )


def _tiles(report: ExperimentReport) -> Html:
    """The key figures."""
    n_failed = sum(arm.n_failed for arm in report.arms)
    tiles = [
        (
            "Runs",
            f"{len(report.results)}",
            f"of {report.n_planned}" + (f", {n_failed} not finished" if n_failed else ""),
        ),
        ("Seeds", f"{len(report.experiment.seeds)}", "the same for every arm"),
        ("Smallest effect", f"{report.metric.smallest_effect:g}", "that matters"),
        (
            "Training",
            format_duration(sum(result.seconds for result in report.results)),
            "all runs together",
        ),
    ]
    boxes = [
        element("div", element("dt", name), element("dd", value, element("small", note)))
        for name, value, note in tiles
    ]
    return element("dl", *boxes, class_="tiles")


def _seeds(report: ExperimentReport) -> Html:
    """Every run as a dot, and the arms as a table."""
    title = element("h2", "Every run")
    if not any(arm.values for arm in report.arms):
        return element("section", title, element("p", "No run has finished."))
    caption = (
        "A dot is a run; a thin line joins the runs of one seed; the vertical mark is the mean."
    )
    return element(
        "section",
        title,
        figure(partial(seeds_chart, report.seed_values, report.metric.name), caption),
        table(
            ("arm", report.metric.name, "SD over seeds", "runs", "not finished"),
            arm_rows(report),
            "numbers",
        ),
    )


def _differences(report: ExperimentReport) -> Html:
    """The differences with their intervals, drawn and as a table."""
    if not any(comparison.differences for comparison in report.comparisons):
        return Html()
    better = "right" if report.metric.higher_is_better else "left"
    caption = (
        "The large dot is the mean, the bar its 95 % interval, a ring the difference of one seed."
        " Left and right of 0, shaded, are differences too small to matter. Better is to the"
        f" {better}."
    )
    header = ("arm", "verdict", "difference", "95 % interval", "p", "SD")
    rows = [_difference_row(comparison) for comparison in report.comparisons]
    return element(
        "section",
        element("h2", f"Difference from {report.experiment.arms[0].name}"),
        figure(partial(differences_chart, report.comparisons), caption),
        table(header, rows, "numbers"),
    )


def _difference_row(comparison: Comparison) -> tuple[str | Html, ...]:
    kind, words = BADGES[comparison.verdict]
    verdict = element("strong", words, class_=kind)
    mean = "–" if comparison.mean is None else format_value(comparison.mean, signed=True)
    sd = "–" if comparison.sd is None else format_value(comparison.sd)
    if comparison.estimate is None:
        return comparison.arm, verdict, mean, "–", "–", sd
    low, high = (
        format_value(bound, signed=True)
        for bound in (comparison.estimate.low, comparison.estimate.high)
    )
    p = format_p(comparison.estimate.p).removeprefix("= ")
    return comparison.arm, verdict, mean, f"{low} to {high}", p, sd


def _curves(report: ExperimentReport) -> Html:
    """The validation loss over training."""
    if not report.curves:
        return Html()

    def draw(width: int, kind: str) -> Html:
        return curves_chart(report.curves, width, 280 if width == NARROW else 360, kind)

    caption = (
        "Validation bits per byte:"
        " the mean over seeds, and a band from the best to the worst of them."
    )
    names = legend([curve.arm for curve in report.curves])
    return element(
        "section",
        element("h2", "Training"),
        figure(draw, caption, names),
    )


def _costs(report: ExperimentReport) -> Html:
    """What a run of each arm takes."""
    header = ("a run of", "tokens", "FLOPs", "time")
    return element(
        "section",
        element("h2", "Cost"),
        table(header, cost_rows(report), "numbers"),
        class_="whole",
    )


def _settings(report: ExperimentReport) -> Html:
    """The settings that differ between arms."""
    title = element("h2", "Settings that differ")
    if not report.differing:
        note = (
            "None: the arms have the same settings, and each has seeds of its own,"
            " so their difference is noise."
        )
        return element("section", title, element("p", note))
    header = ("setting", *(arm.name for arm in report.experiment.arms))
    rows = [(name, *map(format_setting, values)) for name, values in report.differing.items()]
    return element("section", title, table(header, rows), class_="whole")


def _failures(report: ExperimentReport) -> Html:
    """The runs that did not finish, with the reason."""
    lines = failure_lines(report)
    if not lines:
        return Html()
    return element(
        "section",
        element("h2", "Runs that did not finish"),
        element("ul", *(element("li", line) for line in lines)),
    )


def _method(report: ExperimentReport) -> Html:
    """How the verdicts were found."""
    return element(
        "section",
        element("h2", "How it was judged"),
        *(element("p", text) for text in method_paragraphs(report)),
        class_="whole",
    )


def _reproduction(report: ExperimentReport) -> Html:
    """The command and the file that make the experiment again."""
    command, text = reproduce(report)
    return element(
        "section",
        element("h2", "Reproduce"),
        element("pre", command),
        element("h3", "experiment.yaml"),
        element("pre", text),
        class_="whole",
    )
