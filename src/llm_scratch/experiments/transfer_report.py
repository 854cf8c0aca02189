"""Report of learning-rate transfer: sentences, and a page in HTML and Markdown.

Tests: tests/experiments/test_transfer_report.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from llm_scratch.experiments.contents import first_environment
from llm_scratch.experiments.marks import legend
from llm_scratch.experiments.page import figure, html_page, markdown_table, save_pages, section
from llm_scratch.experiments.transfer import BestRate, Transfer
from llm_scratch.experiments.transfer_charts import rate_panels, trend_chart, widths_legend
from llm_scratch.experiments.transfer_runner import TransferOutcome
from llm_scratch.formatting import format_count, format_duration
from llm_scratch.reports.html import Html, element, table
from llm_scratch.reports.tables import environment_table

COLUMNS = ("arm", "width", "best rate", "95 % interval", "lowest loss", "diverged")
METHOD = (
    "Every arm was trained at every width with every rate and seed. The best rate of a width is the"
    " minimum of a parabola through the mean loss of the best rate that was tried and of its two"
    " neighbors, over log rate. The factor is that of a straight line through log best rate"
    " against log width. Intervals resample the seeds, with Student's t for their small number. A"
    " rate with a diverged run counts as too high."
)


def sentences(outcome: TransferOutcome) -> list[str]:
    """What each arm shows, then the widths without a best rate."""
    lines = [_trend(name, transfer) for name, transfer in outcome.transfers.items()]
    for name, transfer in outcome.transfers.items():
        for i, (width, best) in enumerate(
            zip(outcome.experiment.widths, transfer.best, strict=True)
        ):
            if best.edge:
                lines.append(f"{name} at width {width}: {_edge(outcome, name, i, best)}")
    return lines


def _trend(name: str, transfer: Transfer) -> str:
    if transfer.factor is None:
        return f"{name}: no trend: fewer than two widths have a best rate inside the tried range."
    factor = f"×{transfer.factor:.2f} for each doubling of the width"
    if transfer.low is None or transfer.high is None:
        return f"{name}: the best rate changes by {factor}; one seed gives no interval."
    interval = f"95 % interval {transfer.low:.2f} to {transfer.high:.2f}"
    if transfer.verdict == "not shown":
        return f"{name}: not shown whether the best rate changes ({factor}, {interval})."
    if transfer.verdict == "stays":
        return f"{name}: the best rate stays the same ({factor}, {interval})."
    return f"{name}: the best rate {transfer.verdict} by {factor} ({interval})."


def _edge(outcome: TransferOutcome, name: str, i: int, best: BestRate) -> str:
    """Why a width has no best rate."""
    if best.edge == "too few":
        return "fewer than three rates trained without diverging; try lower rates."
    means = outcome.losses[name][i].mean(-1)
    rate = outcome.experiment.rates[int(means.argmin())]
    if best.edge == "lowest":
        return f"the best rate is {rate:g} or less, the lowest that was tried; try lower rates."
    if np.isinf(means[-1]):
        return f"the best rate is about {rate:g}, and the next one diverges; try rates between."
    return f"the best rate is {rate:g} or more, the highest that was tried; try higher rates."


def best_rows(outcome: TransferOutcome) -> list[tuple[str | Html, ...]]:
    """A row for each arm and width, as `COLUMNS`."""
    rows: list[tuple[str | Html, ...]] = []
    for name, transfer in outcome.transfers.items():
        for width, best, losses in zip(
            outcome.experiment.widths, transfer.best, outcome.losses[name], strict=True
        ):
            rate = f"edge ({best.edge})" if best.rate is None else f"{best.rate:.3g}"
            interval = "–" if best.low is None else f"{best.low:.3g} to {best.high:.3g}"
            lowest = losses.mean(-1).min()
            loss = f"{lowest:.4f}" if np.isfinite(lowest) else "–"
            n_diverged = str(int(np.isinf(losses).sum()))
            rows.append((name, f"{width}", rate, interval, loss, n_diverged))
    return rows


def write_transfer_report(outcome: TransferOutcome, folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.md into the folder of the experiment; returns their paths."""
    return save_pages(folder, _page(outcome, folder), _markdown(outcome, folder))


def _title(outcome: TransferOutcome) -> str:
    return f"Best learning rate over the width: {outcome.experiment.name}"


def _summary(outcome: TransferOutcome) -> str:
    """What was run, in a sentence."""
    experiment = outcome.experiment
    return (
        f"{len(experiment.arms)} arms from {Path(experiment.base).name}, {len(experiment.widths)}"
        f" widths, {len(experiment.rates)} rates, {len(experiment.seeds)} seeds:"
        f" {len(outcome.results)} runs,"
        f" {format_count(sum(result.flops for result in outcome.results))}FLOP,"
        f" {format_duration(sum(result.seconds for result in outcome.results))}."
    )


def _arms(outcome: TransferOutcome) -> list[tuple[str | Html, ...]]:
    return [
        (arm.name, " ".join(filter(None, (arm.file, *arm.settings))) or "as the base")
        for arm in outcome.experiment.arms
    ]


def _page(outcome: TransferOutcome, folder: Path) -> str:
    lines = [element("li", line) for line in sentences(outcome)]
    header = element(
        "header",
        element("h1", _title(outcome)),
        element("ul", *lines, class_="verdicts"),
        element("p", _summary(outcome), class_="dim"),
    )
    rates = (
        "A dot is the mean over seeds, the bar its range. Below the curves: the best rate of each"
        " width with its 95 % interval. If a rate transfers, these dots are above each other."
    )
    trend = "The best rate of each width with its 95 % interval, and the fitted line."
    sections = [header, section("Best rates", _best_table(outcome))]
    if any(np.isfinite(losses.mean(-1)).any() for losses in outcome.losses.values()):
        panels = figure(partial(rate_panels, outcome), rates, widths_legend(outcome))
        sections.insert(1, section("Loss against rate", panels))
    if any(best.rate is not None for each in outcome.transfers.values() for best in each.best):
        chart = figure(partial(trend_chart, outcome), trend, legend(list(outcome.transfers)))
        sections.insert(2, section("Best rate against width", chart))
    sections += [
        section("Arms", table(("arm", "settings"), _arms(outcome), "words")),
        section("How it was found", element("p", METHOD)),
        environment_table(first_environment(folder)),
    ]
    return html_page(f"{_title(outcome)}: report", sections)


def _best_table(outcome: TransferOutcome) -> Html:
    return table(COLUMNS, best_rows(outcome), "numbers")


def _markdown(outcome: TransferOutcome, folder: Path) -> str:
    rates = [f"{rate:g}" for rate in outcome.experiment.rates]
    losses = [
        (name, f"{width}", *("diverged" if np.isinf(mean) else f"{mean:.4f}" for mean in means))
        for name, each in outcome.losses.items()
        for width, means in zip(outcome.experiment.widths, each.mean(-1), strict=True)
    ]
    parts = [
        f"# {_title(outcome)}",
        "\n".join(f"- {line}" for line in sentences(outcome)),
        _summary(outcome),
        "## Best rates",
        markdown_table(COLUMNS, best_rows(outcome)),
        "## Mean loss in bits per byte at each rate",
        markdown_table(("arm", "width", *rates), losses),
        "## Arms",
        markdown_table(("arm", "settings"), _arms(outcome)),
        "## How it was found",
        METHOD,
    ]
    return "\n\n".join(parts) + "\n"
