"""Charts of learning-rate transfer: loss against rate for each width, and best rate against width.

Tests: tests/experiments/test_transfer_report.py.
"""

from __future__ import annotations

import numpy as np

from llm_scratch.experiments.marks import (
    Scale,
    color_class,
    dot,
    gradient,
    horizontal,
    label,
    legend,
    padded,
    svg,
    vertical,
    y_axis,
)
from llm_scratch.experiments.transfer import Transfer
from llm_scratch.experiments.transfer_runner import TransferOutcome
from llm_scratch.reports.html import Html, element

MIN_PANEL = 400
"""Pixels of a panel below which the panels are one below the other."""
PANEL_HEIGHT = 250
ROW = 11
"""Pixels of the best rate of a width and its interval, under the curves."""
HIDDEN_SPREAD = 4.0
"""Losses above the lowest that set the height, in units of the median's distance from it."""


def width_styles(outcome: TransferOutcome) -> list[str]:
    """The color of each width, from the narrowest to the widest."""
    return gradient(len(outcome.experiment.widths))


def widths_legend(outcome: TransferOutcome) -> Html:
    """The colors of the widths."""
    names = [f"width {width}" for width in outcome.experiment.widths]
    return legend(names, width_styles(outcome))


def rate_panels(outcome: TransferOutcome, width: int, class_: str = "") -> Html:
    """A panel for each arm: loss against rate, a curve for each width, and its best rate below.

    Args:
        outcome: with at least one finished run.
        width: in pixels.
        class_: of the svg element; the page has a wide and a narrow chart and shows one of them.
    """
    columns = max(1, min(len(outcome.losses), width // MIN_PANEL))
    panel = width / columns
    low, high = _loss_range(outcome)
    height = PANEL_HEIGHT + ROW * len(outcome.experiment.widths) + 84
    parts = []
    for number, name in enumerate(outcome.losses):
        row, column = divmod(number, columns)
        content = _panel(outcome, name, panel, (low, high), f"{class_ or width}-{number}")
        place = f"translate({column * panel:.0f} {row * height})"
        parts.append(element("g", *content, transform=place))
    rows = -(-len(outcome.losses) // columns)
    about = "validation bits per byte against learning rate, for each arm and width"
    return svg(parts, width, rows * height, about, class_)


def _loss_range(outcome: TransferOutcome) -> tuple[float, float]:
    """The losses that are drawn: far above the lowest, only that a curve rises matters."""
    means = np.concatenate([losses.mean(-1).ravel() for losses in outcome.losses.values()])
    means = means[np.isfinite(means)]
    low, median, high = means.min(), np.median(means), means.max()
    limit = low + HIDDEN_SPREAD * (median - low)
    return padded([float(low), float(min(high, limit) if limit > low else high)], 0.05)


def _panel(
    outcome: TransferOutcome, name: str, width: float, losses: tuple[float, float], clip: str
) -> list[Html]:
    """The curves of an arm in a panel of this width."""
    rates = np.log2(outcome.experiment.rates)
    left, right, top = 44.0, width - 16, 30.0
    bottom = top + PANEL_HEIGHT
    x = Scale(*padded(list(rates), 0.05), left, right)
    y = Scale(*losses, bottom, top)
    parts = [label(name, left, 16, "start", "label"), *y_axis(y, left, right)]
    axis = bottom + ROW * len(outcome.experiment.widths) + 8
    parts += _rate_axis(outcome, x, top, axis)
    area = element("rect", x=left, y=top, width=right - left, height=bottom - top)
    parts.append(element("clipPath", area, id=f"rates-{clip}"))
    styles = width_styles(outcome)
    curves, best = [], []
    for i, style in enumerate(styles):
        curves.append(element("g", *_curve(outcome, name, i, x, y), style=style))
        marks = _best(outcome.transfers[name], i, x, bottom + 8 + ROW * i)
        best.append(element("g", *marks, style=style))
    parts.append(element("g", *curves, clip_path=f"url(#rates-{clip})"))
    return [*parts, *best]


def _rate_axis(outcome: TransferOutcome, x: Scale, top: float, bottom: float) -> list[Html]:
    """Vertical lines at the rates that were tried, with as many labels as fit."""
    rates = outcome.experiment.rates
    every = -(-len(rates) * 46 // int(x.end - x.start))
    parts = []
    for i, rate in enumerate(rates):
        at = x(float(np.log2(rate)))
        parts.append(vertical(at, top, bottom, "grid"))
        if i % every == 0:
            parts.append(label(f"{rate:.2g}", at, bottom + 17))
    parts.append(horizontal(bottom, x.start, x.end, "axis"))
    parts.append(label("learning rate", (x.start + x.end) / 2, bottom + 35))
    return parts


def _curve(outcome: TransferOutcome, name: str, i: int, x: Scale, y: Scale) -> list[Html]:
    """The mean loss of a width at each rate and the range of its seeds, without diverged runs."""
    losses = outcome.losses[name][i]  # [R, S]
    points = [
        (rate, x(float(np.log2(rate))), values)
        for rate, values in zip(outcome.experiment.rates, losses, strict=True)
        if np.isfinite(values).all()
    ]
    mean = [f"{at:.1f},{y(float(values.mean())):.1f}" for _, at, values in points]
    parts = [element("polyline", points=" ".join(mean), class_="curve")]
    for rate, at, values in points:
        parts.append(vertical(at, y(float(values.max())), y(float(values.min())), "interval"))
        title = f"rate {rate:g}: {values.mean():.4f}"
        parts.append(dot(at, y(float(values.mean())), radius=3, title=title))
    return parts


def _best(transfer: Transfer, i: int, x: Scale, y: float) -> list[Html]:
    """The best rate of a width with its interval, on a line under the curves."""
    best = transfer.best[i]
    if best.rate is None:
        return []
    parts = []
    if best.low is not None and best.high is not None:
        low, high = (
            min(max(x(float(np.log2(bound))), x.start), x.end) for bound in (best.low, best.high)
        )
        parts.append(horizontal(y, low, high, "interval"))
    parts.append(dot(x(float(np.log2(best.rate))), y, title=f"best rate {best.rate:.3g}"))
    return parts


def trend_chart(outcome: TransferOutcome, width: int, class_: str = "") -> Html:
    """The best rate of each width with its interval, and the fitted line, for every arm.

    Args:
        outcome: with at least one best rate.
        width, class_: as in `rate_panels`.
    """
    left, right, top, bottom = 58.0, width - 16.0, 10.0, 240.0
    widths = np.log2(outcome.experiment.widths)
    bounds = [
        float(np.log2(value))
        for transfer in outcome.transfers.values()
        for best in transfer.best
        for value in (best.rate, best.low, best.high)
        if value is not None
    ]
    lowest, highest = np.log2(outcome.experiment.rates[0]), np.log2(outcome.experiment.rates[-1])
    shown = [float(np.clip(bound, lowest - 1, highest + 1)) for bound in bounds]
    x, y = Scale(*padded(list(widths), 0.1), left, right), Scale(*padded(shown), bottom, top)
    parts = []
    for power in y.ticks(38):
        parts.append(horizontal(y(power), left, right, "grid"))
        parts.append(label(f"{2**power:.2g}", left - 8, y(power) + 4, "end"))
    for at, size in zip(widths, outcome.experiment.widths, strict=True):
        parts.append(label(f"{size}", x(float(at)), bottom + 17))
    parts.append(horizontal(bottom, left, right, "axis"))
    parts.append(label("width of the model", (left + right) / 2, bottom + 35))
    for number, transfer in enumerate(outcome.transfers.values()):
        shift = 5.0 * (number - (len(outcome.transfers) - 1) / 2)
        parts += _trend(transfer, widths, x, y, shift, color_class(number))
    return svg(parts, width, bottom + 42, "best learning rate against the width", class_)


def _trend(
    transfer: Transfer, widths: np.ndarray, x: Scale, y: Scale, shift: float, color: str
) -> list[Html]:
    """The best rates of an arm, moved sideways a little so that arms do not cover each other."""
    points = [
        (float(at), float(np.log2(best.rate)), best)
        for at, best in zip(widths, transfer.best, strict=True)
        if best.rate is not None
    ]
    parts = []
    if transfer.factor is not None:
        slope = float(np.log2(transfer.factor))
        center, level = (float(np.mean([point[i] for point in points])) for i in (0, 1))
        ends = [
            f"{x(at) + shift:.1f},{y(level + slope * (at - center)):.1f}" for at, _, _ in points
        ]
        parts.append(element("polyline", points=" ".join(ends), class_=f"curve {color}"))
    for at, rate, best in points:
        if best.low is not None and best.high is not None:
            low, high = (
                min(max(y(float(np.log2(bound))), y.end), y.start)
                for bound in (best.low, best.high)
            )
            parts.append(vertical(x(at) + shift, high, low, f"interval {color}"))
        parts.append(dot(x(at) + shift, y(rate), color, title=f"best rate {2**rate:.3g}"))
    return parts
