"""Charts of a scaling law: loss against size for each budget, errors, and what can be graded.

Tests: tests/experiments/test_scaling_report.py.
"""

from __future__ import annotations

import numpy as np

from llm_scratch.experiments.marks import (
    Scale,
    dot,
    gradient,
    horizontal,
    label,
    mixed_color,
    padded,
    pixel,
    svg,
    vertical,
    y_axis,
)
from llm_scratch.experiments.scaling_runner import ScalingOutcome
from llm_scratch.formatting import format_count
from llm_scratch.reports.html import Html, element

ROW = 12
"""Pixels of the best sizes of a budget, under the curves."""
N_POINTS = 60
"""Points of a curve."""


def budget_styles(outcome: ScalingOutcome) -> list[str]:
    """The color of each budget, from the smallest to the largest."""
    return gradient(len(outcome.best_sizes))


def _by_budget(outcome: ScalingOutcome) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Parameters, tokens and losses of the runs of each budget, smallest model first."""
    n_sizes = len(outcome.runs) // max(1, len(outcome.best_sizes))
    rows = [(n, result.tokens, result.value or 0.0) for n, result in outcome.runs]
    groups = [sorted(rows[i : i + n_sizes]) for i in range(0, len(rows), n_sizes)]
    return [tuple(np.array(group, dtype=float).T) for group in groups]


def sizes_chart(outcome: ScalingOutcome, width: int, class_: str = "") -> Html:
    """Runs, law and parabola of each budget over the number of parameters, and the best sizes.

    Args:
        outcome: with at least one run.
        width: in pixels.
        class_: of the svg element; the page has a wide and a narrow chart and shows one of them.
    """
    left, right, top, bottom = 44.0, width - 16.0, 10.0, 270.0
    groups = _by_budget(outcome)
    sizes = np.concatenate([parameters for parameters, _, _ in groups])
    losses = np.concatenate([values for _, _, values in groups])
    x = Scale(*padded([float(value) for value in np.log2(sizes)], 0.05), left, right)
    y = Scale(*padded([float(value) for value in losses], 0.06), bottom, top)
    axis = bottom + ROW * len(groups) + 8
    parts = [*y_axis(y, left, right), horizontal(axis, left, right, "axis")]
    parts += _size_labels(x, sizes, axis)
    area = element("rect", x=left, y=top, width=right - left, height=bottom - top)
    clip = f"sizes-{class_ or width}"
    parts.append(element("clipPath", area, id=clip))
    best = list(outcome.best_sizes.values())
    for i, (style, group) in enumerate(zip(budget_styles(outcome), groups, strict=True)):
        curves = element("g", *_curves(outcome, group, x, y), clip_path=f"url(#{clip})")
        row = _best_marks(*best[i], x, bottom + 10 + ROW * i)
        parts.append(element("g", curves, *row, style=style))
    return svg(parts, width, axis + 44, "bits per byte against parameters", class_)


def _size_labels(x: Scale, sizes: np.ndarray, axis: float) -> list[Html]:
    """The sizes of the grid under the axis, as far as they do not overlap."""
    parts: list[Html] = []
    last = float("-inf")
    for size in sorted(set(sizes)):
        at = x(float(np.log2(size)))
        if at - last > 52:
            parts.append(label(format_count(size), at, axis + 17))
            last = at
    return [*parts, label("parameters", (x.start + x.end) / 2, axis + 35)]


def _curves(
    outcome: ScalingOutcome, group: tuple[np.ndarray, np.ndarray, np.ndarray], x: Scale, y: Scale
) -> list[Html]:
    """The law and the parabola of a budget, and its runs."""
    parameters, tokens, losses = group
    log_size = np.log2(parameters)
    fine = np.linspace(log_size[0], log_size[-1], N_POINTS)
    log_tokens = np.interp(fine, log_size, np.log2(tokens))
    law = outcome.fit.law.loss(2**fine, 2**log_tokens)
    parts = [_line(x, y, fine, law, "curve")]
    if len(set(parameters)) >= 3:
        parabola = np.polyval(np.polyfit(log_size, losses, 2), fine)
        parts.append(_line(x, y, fine, parabola, "curve dashed"))
    for size, loss in zip(parameters, losses, strict=True):
        title = f"{format_count(size)} parameters: {loss:.4f}"
        parts.append(dot(x(float(np.log2(size))), y(float(loss)), title=title))
    return parts


def _line(x: Scale, y: Scale, across: np.ndarray, up: np.ndarray, class_: str) -> Html:
    points = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(across, up, strict=True)]
    return element("polyline", points=" ".join(points), class_=class_)


def _best_marks(law: float, parabola: float | None, x: Scale, y: float) -> list[Html]:
    """The best sizes of a budget inside the chart: a dot by the law, a ring by the parabola."""
    parts = []
    if law > 0 and x.low <= np.log2(law) <= x.high:
        title = f"best by the law: {format_count(law)}"
        parts.append(dot(x(float(np.log2(law))), y, title=title))
    if parabola is not None:
        parts.append(_ring(x(float(np.log2(parabola))), y, f"by the parabola: {parabola:,.0f}"))
    return parts


def _ring(x: float, y: float, title: str) -> Html:
    return element(
        "circle", element("title", title), cx=pixel(x), cy=pixel(y), r=4.5, class_="ring"
    )


def residuals_chart(outcome: ScalingOutcome, width: int, class_: str = "") -> Html:
    """The measured loss of each run less that of the law, over its tokens.

    Args:
        outcome, width, class_: as in `sizes_chart`.
    """
    left, right, top, bottom = 52.0, width - 16.0, 10.0, 190.0
    groups = _by_budget(outcome)
    errors = [losses - outcome.fit.law.loss(n, tokens) for n, tokens, losses in groups]
    tokens = np.concatenate([each for _, each, _ in groups])
    x = Scale(*padded([float(value) for value in np.log2(tokens)], 0.05), left, right)
    y = Scale(*padded([0.0, *(float(e) for each in errors for e in each)], 0.1), bottom, top)
    parts = [*y_axis(y, left, right), horizontal(y(0.0), left, right, "axis")]
    for value in _round_counts(x):
        parts.append(label(format_count(value), x(float(np.log2(value))), bottom + 17))
    parts.append(label("training tokens", (left + right) / 2, bottom + 35))
    for style, (sizes, lengths, _), each in zip(
        budget_styles(outcome), groups, errors, strict=True
    ):
        dots = [
            dot(
                x(float(np.log2(n))),
                y(float(e)),
                title=f"{format_count(size)} parameters: {e:+.4f}",
            )
            for size, n, e in zip(sizes, lengths, each, strict=True)
        ]
        parts.append(element("g", *dots, style=style))
    return svg(parts, width, bottom + 42, "errors of the law against tokens", class_)


def _round_counts(x: Scale) -> list[float]:
    """1, 2 and 5 times powers of ten on a logarithmic axis, or fewer of them if it is short."""
    n_doublings = (x.high - x.low) * 60 / (x.end - x.start)
    digits = (1, 2, 5) if n_doublings < 1 else (1, 3) if n_doublings < 1.5 else (1,)
    counts = [digit * 10.0**power for power in range(16) for digit in digits]
    return [count for count in counts if x.low <= np.log2(count) <= x.high]


def estimates_chart(outcome: ScalingOutcome, width: int, class_: str = "") -> Html:
    """E and the loss of the larger run, each with its interval, and the truth where it is known.

    Args:
        outcome, width, class_: as in `sizes_chart`.
    """
    rows = [("E, the loss that no size goes below", outcome.fit.law.E, *outcome.fit.interval("E"))]
    truths = [outcome.floor]
    prediction = outcome.prediction
    if prediction is not None:
        name = f"{format_count(prediction.parameters)} parameters"
        rows.append((name, prediction.loss, prediction.low, prediction.high))
        truths.append(prediction.measured)
    known = [value for value in truths if value is not None]
    values = [*known, *(value for row in rows for value in row[1:])]
    x = Scale(*padded(values), 14.0, width - 14.0)
    bottom = 10.0 + 52 * len(rows)
    parts = []
    for value in x.ticks(70):
        parts.append(vertical(x(value), 10, bottom, "grid"))
        parts.append(label(f"{value:g}", x(value), bottom + 17))
    for i, ((name, value, low, high), truth) in enumerate(zip(rows, truths, strict=True)):
        y = 46.0 + 52 * i
        parts.append(label(name, 14, y - 16, "start", "label"))
        parts.append(horizontal(y, x(low), x(high), "interval"))
        parts.append(dot(x(value), y, radius=5, title=f"{value:.4f}"))
        if truth is not None:
            parts.append(_ring(x(truth), y, f"truth: {truth:.4f}"))
    parts.append(label("bits per byte", width / 2, bottom + 36))
    marks = element("g", *parts, style=mixed_color(0.0))
    return svg([marks], width, bottom + 42, "estimates with 95 % intervals", class_)
