"""Charts of an experiment as inline SVGs in the colors of the page: seeds, differences, curves.

Tests: tests/experiments/test_charts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_scratch.experiments.marks import (
    Scale,
    color_class,
    curve_class,
    dot,
    horizontal,
    label,
    padded,
    pixel,
    svg,
    vertical,
    y_axis,
)
from llm_scratch.experiments.verdict import Comparison
from llm_scratch.formatting import format_count
from llm_scratch.reports.html import Html, element

ROW_HEIGHT = 58
LABEL_OFFSET = 16
"""Pixels from the label of a row down to its dots."""
HIDDEN_SHARE = 0.15
"""Share of the first evaluations that do not set the height of the curves: the loss falls fast."""
PIXELS_PER_LETTER = 7.6


@dataclass(frozen=True)
class SeedValues:
    """The values of an arm: seed -> value of its finished run."""

    arm: str
    values: dict[int, float]


@dataclass(frozen=True)
class ArmCurve:
    """Validation loss of an arm over training: mean and range over its seeds, all [n]."""

    arm: str
    tokens: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _x_axis(x: Scale, top: float, bottom: float, label: str, signed: bool = False) -> list[Html]:
    """Vertical grid lines with their values under them, and the name of the axis."""
    parts = []
    values = x.ticks(62)
    digits = _digits(values)
    for value in values:
        text = f"{value:{'+' if signed and value else ''}.{digits}f}".replace("-", "−")
        parts.append(vertical(x(value), top, bottom, "grid"))
        parts.append(element("text", text, x=pixel(x(value)), y=bottom + 17, text_anchor="middle"))
    parts.append(
        element("text", label, x=pixel((x.start + x.end) / 2), y=bottom + 36, text_anchor="middle")
    )
    return parts


def _label(name: str, y: float, width: int) -> Html:
    """The name of a row, shortened to the width of the chart."""
    most = int((width - 28) / PIXELS_PER_LETTER)
    return element(
        "text",
        name if len(name) <= most else f"{name[: most - 1]}…",
        x=14,
        y=pixel(y - LABEL_OFFSET),
        class_="label",
    )


def _digits(values: Sequence[float]) -> int:
    """Decimals that distinguish rounded values."""
    return max((len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in values), default=0)


def seeds_chart(arms: Sequence[SeedValues], unit: str, width: int, class_: str = "") -> Html:
    """A row of dots for each arm, one a seed; lines join the runs of a seed, a mark is the mean.

    Args:
        arms: the reference first; at least one has a value.
        unit: name of the metric.
        width: in pixels.
        class_: of the svg element; the page has a wide and a narrow chart and shows one of them.
    """
    top, bottom = 8.0, 8.0 + ROW_HEIGHT * len(arms)
    everything = [value for arm in arms for value in arm.values.values()]
    x = Scale(*padded(everything), 14, width - 14)
    rows = [top + ROW_HEIGHT * number + LABEL_OFFSET + 20 for number in range(len(arms))]
    parts = _x_axis(x, top, bottom, unit)
    for seed in sorted({seed for arm in arms for seed in arm.values}):
        joined = [
            f"{x(arm.values[seed]):.1f},{y:.1f}"
            for arm, y in zip(arms, rows, strict=True)
            if seed in arm.values
        ]
        if len(joined) > 1:
            parts.append(element("polyline", points=" ".join(joined), class_="pair"))
    for number, (arm, y) in enumerate(zip(arms, rows, strict=True)):
        parts.append(_label(arm.arm, y, width))
        if arm.values:
            mean = x(float(np.mean(list(arm.values.values()))))
            parts.append(vertical(mean, y - 11, y + 11, f"mean {color_class(number)}"))
        parts += [
            dot(x(value), y, color_class(number), title=f"seed {seed}: {value:.4f}")
            for seed, value in arm.values.items()
        ]
    return svg(parts, width, bottom + 42, f"{unit} of every run, the runs of a seed joined", class_)


def differences_chart(comparisons: Sequence[Comparison], width: int, class_: str = "") -> Html:
    """The difference of each arm from the reference, with its interval and that of every seed.

    Args:
        comparisons: at least one with a pair.
        width, class_: as in `seeds_chart`.
    """
    top, bottom = 8.0, 8.0 + ROW_HEIGHT * len(comparisons)
    reference, unit, margin = comparisons[0].reference, comparisons[0].unit, comparisons[0].margin
    x = Scale(*padded(_shown_differences(comparisons)), 14, width - 14)
    parts = []
    if margin:
        left, right = x(-margin), x(margin)
        size = {"width": pixel(right - left), "height": f"{bottom - top}"}
        parts.append(element("rect", x=pixel(left), y=top, **size, class_="margin"))
    parts += _x_axis(x, top, bottom, f"difference from {reference}, {unit}", signed=True)
    parts.append(vertical(x(0), top, bottom, "axis"))
    for row, comparison in enumerate(comparisons):
        y = top + ROW_HEIGHT * row + LABEL_OFFSET + 20
        parts.append(_label(comparison.arm, y, width))
        parts += _difference_marks(comparison, x, y, row + 1)
    about = f"differences from {reference} with 95 % intervals"
    return svg(parts, width, bottom + 42, about, class_)


def _shown_differences(comparisons: Sequence[Comparison]) -> list[float]:
    """The values that the axis has to include."""
    margin = comparisons[0].margin
    values = [0.0, -margin, margin]
    for comparison in comparisons:
        values += comparison.differences.values()
        values += [comparison.estimate.low, comparison.estimate.high] if comparison.estimate else []
    return values


def _difference_marks(comparison: Comparison, x: Scale, y: float, number: int) -> list[Html]:
    """The interval of an arm, a ring for each seed, and a dot for the mean."""
    color = color_class(number)
    parts = []
    if comparison.estimate:
        low, high = x(comparison.estimate.low), x(comparison.estimate.high)
        ends = {"x1": pixel(low), "x2": pixel(high)}
        parts.append(element("line", **ends, y1=y, y2=y, class_=f"interval {color}"))
        parts += [vertical(end, y - 6, y + 6, f"interval {color}") for end in (low, high)]
    for seed, value in comparison.differences.items():
        about = element("title", f"seed {seed}: {value:+.4f}")
        center = {"cx": pixel(x(value)), "cy": f"{y}"}
        parts.append(element("circle", about, **center, r=3, class_=f"ring {color}"))
    if comparison.mean is not None:
        parts.append(dot(x(comparison.mean), y, color, 6, f"mean: {comparison.mean:+.4f}"))
    return parts


def curves_chart(curves: Sequence[ArmCurve], width: int, height: int, class_: str = "") -> Html:
    """Validation loss over training: the mean of each arm's seeds, and a band of their range.

    Args:
        curves: at least one, each with at least two evaluations.
        width, height: in pixels.
        class_: as in `seeds_chart`.
    """
    left, right, top, bottom = 44, 14, 10, height - 44
    lowest = min(float(curve.low.min()) for curve in curves)
    highest = max(float(curve.high[_first_shown(curve)]) for curve in curves)
    x = Scale(0.0, max(float(curve.tokens[-1]) for curve in curves), left, width - right)
    y = Scale(*padded([lowest, highest], 0.03), bottom, top)
    parts = _curve_axes(x, y, left, width - right, height)
    clip = f"curves-{class_ or width}"
    area = element("rect", x=left, y=top, width=width - left - right, height=bottom - top)
    parts.append(element("clipPath", area, id=clip))
    bands, means = [], []
    for number, curve in enumerate(curves):
        outline = _points(x, y, curve.tokens, curve.low)
        outline += _points(x, y, curve.tokens, curve.high)[::-1]
        mean = _points(x, y, curve.tokens, curve.mean)
        bands.append(
            element("polygon", points=" ".join(outline), class_=f"band {color_class(number)}")
        )
        means.append(element("polyline", points=" ".join(mean), class_=curve_class(number)))
    parts.append(element("g", *bands, *means, clip_path=f"url(#{clip})"))
    return svg(parts, width, height, "validation bits per byte over training tokens", class_)


def _curve_axes(x: Scale, y: Scale, left: int, right: int, height: int) -> list[Html]:
    """Grid lines with their losses, and the axis of training tokens."""
    bottom = y.start
    parts = y_axis(y, left, right)
    for value in x.ticks(110):
        anchor = "end" if x(value) > right - 15 else "middle"
        parts.append(label(format_count(value), x(value), bottom + 18, anchor))
    parts.append(horizontal(bottom, left, right, "axis"))
    parts.append(label("training tokens", (left + right) / 2, height - 6))
    return parts


def _points(x: Scale, y: Scale, tokens: np.ndarray, values: np.ndarray) -> list[str]:
    return [f"{x(token):.1f},{y(value):.1f}" for token, value in zip(tokens, values, strict=True)]


def _first_shown(curve: ArmCurve) -> int:
    """The evaluation that sets the height of the chart: never the one before training."""
    return max(1, round(HIDDEN_SHARE * (len(curve.mean) - 1)))


CHART_STYLE = """
.tiles { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
figcaption { margin-top: .5rem }
.numbers td { white-space: nowrap }
svg .arm0 { --c: var(--floor) }
svg .arm1 { --c: var(--val) }
svg .arm2 { --c: var(--bar) }
svg .arm3 { --c: var(--ok) }
svg .arm4 { --c: #b0579f } svg .arm5 { --c: #b58900 } svg .arm6 { --c: #2aa198 }
svg .label { fill: var(--ink); font-weight: 600; font-size: 13px; paint-order: stroke;
  stroke: var(--paper); stroke-width: 4px }
svg .dot { fill: var(--c); stroke: var(--paper); stroke-width: 1.2 }
svg .ring { fill: var(--paper); stroke: var(--c); stroke-width: 1.4; opacity: .8 }
svg .mean { stroke: var(--c); stroke-width: 2.5 }
svg .pair { fill: none; stroke: var(--dim); stroke-width: 1; opacity: .55 }
svg .interval { stroke: var(--c); stroke-width: 2.2; stroke-linecap: round }
svg .margin { fill: var(--track); opacity: .8 }
svg .curve { fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round }
svg .dashed { stroke-dasharray: 5 5 }
svg .band { fill: var(--c); opacity: .16 }
.verdicts { list-style: none; padding: 0; margin: 1rem 0 }
.verdicts li { border-left: .3rem solid var(--line); padding: .15rem 0 .15rem .9rem;
  margin: .7rem 0; font-size: 1.06rem }
.verdicts li.better { border-color: var(--ok) } .verdicts li.worse { border-color: var(--problem) }
.verdicts li.failures { border-color: var(--warning) }
.verdicts li.equivalent { border-color: var(--bar) }
"""
