"""Write the report of an experiment:
one HTML page without network access or scripts, and the same as Markdown.

`write_report` writes both; `render` and `render_markdown` make their texts from what
`contents.collect` has read.
Tests: tests/experiments/test_report.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_scratch.experiments.charts import (
    CHART_STYLE,
    arms_legend,
    curves_chart,
    differences_chart,
    seeds_chart,
)
from llm_scratch.experiments.contents import ExperimentReport, collect
from llm_scratch.experiments.experiment import dump_experiment
from llm_scratch.experiments.statistics import LOOK_RULE
from llm_scratch.experiments.verdict import Comparison, format_value
from llm_scratch.formatting import format_count, format_duration, shell_command
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.style import STYLE
from llm_scratch.reports.tables import environment_table
from llm_scratch.storage.files import atomic_write

HTML_FILE, MARKDOWN_FILE = "report.html", "report.md"
BROAD, NARROW = 880, 340
MAX_TITLE = 80
"""characters"""
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
    page, markdown = report.folder / HTML_FILE, report.folder / MARKDOWN_FILE
    atomic_write(page, render(report))
    atomic_write(markdown, render_markdown(report))
    return page, markdown


def render(report: ExperimentReport) -> str:
    """The page of a report."""
    sections = [
        make(report)
        for make in (_header, _seeds, _differences, _curves, _costs, _settings, _failures, _method)
    ]
    sections += [environment_table(report.environment), _reproduction(report)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{_title(report)}: experiment report"),
        element("style", Html(STYLE + CHART_STYLE)),
    )
    body = element("body", element("main", *(section for section in sections if section)))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


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
        element("h1", _title(report)),
        element("p", f"{report.folder.resolve()} · {changed}", class_="dim where"),
        element("ul", *items, class_="verdicts"),
        element("p", _summary(report), class_="dim"),
        _tiles(report),
    )


def _title(report: ExperimentReport) -> str:
    """The arms, if their names are short enough for a heading."""
    names = " vs ".join(arm.name for arm in report.experiment.arms)
    return (
        names
        if len(names) <= MAX_TITLE
        else f"{len(report.experiment.arms)} arms from {Path(report.experiment.base).name}"
    )


def _summary(report: ExperimentReport) -> str:
    """What was compared, in a sentence."""
    experiment = report.experiment
    better = "higher" if report.metric.higher_is_better else "lower"
    return (
        f"{len(experiment.arms)} arms from {Path(experiment.base).name}, each with"
        f" {len(experiment.seeds)} seeds; {report.metric.name}, where {better} is better; the"
        f" reference is {experiment.arms[0].name}."
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
    charts = [
        seeds_chart(report.seed_values, report.metric.name, width, kind)
        for width, kind in ((BROAD, "broad"), (NARROW, "narrow"))
    ]
    caption = (
        "A dot is a run; a thin line joins the runs of one seed; the vertical mark is the mean."
    )
    figure = element("figure", *charts, element("figcaption", caption))
    return element(
        "section",
        title,
        figure,
        table(
            ("arm", report.metric.name, "SD over seeds", "runs", "not finished"),
            _arm_rows(report),
            "numbers",
        ),
    )


def _arm_rows(report: ExperimentReport) -> list[tuple[str | Html, ...]]:
    rows: list[tuple[str | Html, ...]] = []
    for arm in report.arms:
        mean = "–" if arm.mean is None else format_value(arm.mean)
        sd = "–" if arm.sd is None else format_value(arm.sd)
        rows.append((arm.arm, mean, sd, str(arm.n_runs), str(arm.n_failed)))
    return rows


def _differences(report: ExperimentReport) -> Html:
    """The differences with their intervals, drawn and as a table."""
    if not any(comparison.differences for comparison in report.comparisons):
        return Html()
    charts = [
        differences_chart(report.comparisons, width, kind)
        for width, kind in ((BROAD, "broad"), (NARROW, "narrow"))
    ]
    better = "right" if report.metric.higher_is_better else "left"
    caption = (
        "The large dot is the mean, the bar its 95 % interval, a ring the difference of one seed."
        " Left and right of 0, shaded, are differences too small to matter. Better is to the"
        f" {better}."
    )
    header = ("arm", "verdict", "difference", "95 % interval", "p", "SD")
    rows = [_difference_row(comparison) for comparison in report.comparisons]
    figure = element("figure", *charts, element("figcaption", caption))
    return element(
        "section",
        element("h2", f"Difference from {report.experiment.arms[0].name}"),
        figure,
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
    return comparison.arm, verdict, mean, f"{low} to {high}", f"{comparison.estimate.p:.2g}", sd


def _curves(report: ExperimentReport) -> Html:
    """The validation loss over training."""
    if not report.curves:
        return Html()
    charts = [
        curves_chart(report.curves, width, height, kind)
        for width, height, kind in ((BROAD, 360, "broad"), (NARROW, 280, "narrow"))
    ]
    caption = (
        "Validation bits per byte: the mean over seeds, and a band from the best to the worst of"
        " them."
    )
    legend = arms_legend([curve.arm for curve in report.curves])
    return element(
        "section",
        element("h2", "Training"),
        element("figure", *charts, legend, element("figcaption", caption)),
    )


def _costs(report: ExperimentReport) -> Html:
    """What a run of each arm takes."""
    header = ("a run of", "tokens", "FLOPs", "time")
    return element(
        "section",
        element("h2", "Cost"),
        table(header, _cost_rows(report), "numbers"),
        class_="whole",
    )


def _cost_rows(report: ExperimentReport) -> list[tuple[str | Html, ...]]:
    return [
        (
            (
                arm.arm,
                format_count(arm.tokens),
                format_count(arm.flops),
                format_duration(arm.seconds),
            )
            if arm.values
            else (arm.arm, "–", "–", "–")
        )
        for arm in report.arms
    ]


def _settings(report: ExperimentReport) -> Html:
    """The settings that differ between arms."""
    title = element("h2", "Settings that differ")
    if not report.differing:
        note = (
            "None: the arms have the same settings, and each has seeds of its own, so their"
            " difference is noise."
        )
        return element("section", title, element("p", note))
    header = ("setting", *(arm.name for arm in report.experiment.arms))
    rows = [(name, *map(_shown, values)) for name, values in report.differing.items()]
    return element("section", title, table(header, rows), class_="whole")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _failures(report: ExperimentReport) -> Html:
    """The runs that did not finish, with the reason."""
    lines = _failure_lines(report)
    if not lines:
        return Html()
    return element(
        "section",
        element("h2", "Runs that did not finish"),
        element("ul", *(element("li", line) for line in lines)),
    )


def _failure_lines(report: ExperimentReport) -> list[str]:
    return [
        f"{result.arm}, seed {result.seed}: {result.reason}"
        for result in report.results
        if result.state != "finished"
    ]


def _method(report: ExperimentReport) -> Html:
    """How the verdicts were found."""
    return element(
        "section",
        element("h2", "How it was judged"),
        *(element("p", text) for text in _method_words(report)),
        class_="whole",
    )


def _method_words(report: ExperimentReport) -> list[str]:
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
            " method, is below the level of its look. It is ruled out if two one-sided tests place"
            " it within the smallest difference that matters. A run that diverged or failed counts"
            f" against its arm. {LOOK_RULE} The 95 % intervals of all arms at all looks cover the"
            " truth together; with several arms they are a little wider than the test."
        ),
    ]
    if report.experiment.search:
        names = ", ".join(name for name, _ in report.experiment.search)
        words.append(
            f"{names} was tuned for every arm over the same values, with another seed and another"
            " half of the validation text."
        )
    words += report.search_warnings
    return words


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


def reproduce(report: ExperimentReport) -> tuple[str, str]:
    """The command that runs the experiment again, and its file."""
    command = shell_command(
        "experiment", "run", report.folder / "experiment.yaml", "--out", f"{report.folder}-again"
    )
    return command, dump_experiment(report.experiment).strip()


def render_markdown(report: ExperimentReport) -> str:
    """The report as Markdown."""
    command, text = reproduce(report)
    header = ("arm", report.metric.name, "SD over seeds", "runs", "not finished")
    values = [
        (arm.arm, *(_cell(arm.values.get(seed)) for seed in report.experiment.seeds))
        for arm in report.arms
    ]
    parts = [
        f"# {_title(report)}",
        "\n".join(f"- {comparison.sentence}" for comparison in report.comparisons),
        _summary(report),
    ]
    parts += ["## Arms", _markdown_table(header, _arm_rows(report))]
    parts += [
        "## Every run",
        _markdown_table(("arm", *(f"seed {seed}" for seed in report.experiment.seeds)), values),
    ]
    parts += [
        "## Cost of a run",
        _markdown_table(("arm", "tokens", "FLOPs", "time"), _cost_rows(report)),
    ]
    if report.differing:
        rows = [(name, *map(_shown, each)) for name, each in report.differing.items()]
        parts += [
            "## Settings that differ",
            _markdown_table(("setting", *(arm.name for arm in report.experiment.arms)), rows),
        ]
    if lines := _failure_lines(report):
        parts += ["## Runs that did not finish", "\n".join(f"- {line}" for line in lines)]
    parts += [
        "## How it was judged",
        *_method_words(report),
        "## Reproduce",
        f"```\n{command}\n```",
        f"```yaml\n{text}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(value: float | None) -> str:
    return "–" if value is None else format_value(value)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells have no line breaks or unescaped bars."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
