"""Charts of an experiment as inline SVGs that take their colors from the page:
seeds, differences, curves.

Tests: tests/experiments/test_charts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_scratch.experiments.verdict import Comparison
from llm_scratch.formatting import format_count
from llm_scratch.reports.chart import ticks
from llm_scratch.reports.html import Html, element

ROW_HEIGHT = 58
LABEL_OFFSET = 16
"""Pixels from the label of a row down to its dots."""
N_COLORS = 6
HIDDEN_SHARE = 0.15
"""Share of the evaluations, at the start,
that do not set the height of the curves: the loss falls steeply there.
"""
PIXELS_PER_LETTER = 7.6


@dataclass(frozen=True)
class SeedValues:
    """The values of an arm: seed -> value of its finished run."""

    arm: str
    values: dict[int, float]


@dataclass(frozen=True)
class ArmCurve:
    """The validation loss of an arm over training:
    mean and range over its seeds at each evaluation, all [n].
    """

    arm: str
    tokens: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def color_class(number: int) -> str:
    """The class that gives the arm with this number its color; 0 is the reference."""
    return f"arm{number if number <= N_COLORS else (number - 1) % N_COLORS + 1}"


class Scale:
    """A linear axis in pixels: `low` is at `start`, `high` at `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, pixels_each: float) -> list[float]:
        """Round values on the axis, about one in so many pixels."""
        return ticks(self.low, self.high, max(2, int(abs(self.end - self.start) / pixels_each)))


def _padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of values with a margin on both sides."""
    low, high = min(values), max(values)
    margin = share * (high - low) or abs(high) * share or 1.0
    return low - margin, high + margin


def _point(scale: float) -> str:
    return f"{scale:.1f}"


def _x_axis(x: Scale, top: float, bottom: float, label: str, signed: bool = False) -> list[Html]:
    """Vertical grid lines with their values under them, and the name of the axis."""
    parts = []
    values = x.ticks(62)
    digits = _digits(values)
    for value in values:
        text = f"{value:{'+' if signed and value else ''}.{digits}f}".replace("-", "−")
        parts.append(
            element(
                "line", x1=_point(x(value)), x2=_point(x(value)), y1=top, y2=bottom, class_="grid"
            )
        )
        parts.append(element("text", text, x=_point(x(value)), y=bottom + 17, text_anchor="middle"))
    parts.append(
        element("text", label, x=_point((x.start + x.end) / 2), y=bottom + 36, text_anchor="middle")
    )
    return parts


def _label(name: str, y: float, width: int) -> Html:
    """The name of a row, shortened to the width of the chart."""
    most = int((width - 28) / PIXELS_PER_LETTER)
    return element(
        "text",
        name if len(name) <= most else f"{name[: most - 1]}…",
        x=14,
        y=_point(y - LABEL_OFFSET),
        class_="label",
    )


def _digits(values: Sequence[float]) -> int:
    """Decimals that tell round values apart."""
    return max((len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in values), default=0)


def _dot(x: float, y: float, number: int, radius: float = 4.5, title: str = "") -> Html:
    about = [element("title", title)] * bool(title)
    return element(
        "circle", *about, cx=_point(x), cy=_point(y), r=radius, class_=f"dot {color_class(number)}"
    )


def _svg(parts: Sequence[Html], width: int, height: float, label: str, class_: str) -> Html:
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width} {height:.0f}",
        role="img",
        aria_label=label,
        class_=class_,
    )


def seeds_chart(arms: Sequence[SeedValues], unit: str, width: int, class_: str = "") -> Html:
    """A row of dots for each arm, one for each seed;
    lines join the runs of a seed, a mark is the mean.

    Args:
        arms: the reference first; at least one has a value.
        unit: name of the metric.
        width: in pixels.
        class_: of the svg element; the page has a wide and a narrow chart and shows one of them.
    """
    top, bottom = 8.0, 8.0 + ROW_HEIGHT * len(arms)
    everything = [value for arm in arms for value in arm.values.values()]
    x = Scale(*_padded(everything), 14, width - 14)
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
            parts.append(
                element(
                    "line",
                    x1=_point(mean),
                    x2=_point(mean),
                    y1=y - 11,
                    y2=y + 11,
                    class_=f"mean {color_class(number)}",
                )
            )
        parts += [
            _dot(x(value), y, number, title=f"seed {seed}: {value:.4f}")
            for seed, value in arm.values.items()
        ]
    return _svg(
        parts, width, bottom + 42, f"{unit} of every run, the runs of a seed joined", class_
    )


def differences_chart(comparisons: Sequence[Comparison], width: int, class_: str = "") -> Html:
    """For each arm: its difference from the reference with the interval,
    over the differences of single seeds.

    Args:
        comparisons: at least one with a pair.
        width, class_: as in `seeds_chart`.
    """
    top, bottom = 8.0, 8.0 + ROW_HEIGHT * len(comparisons)
    margin = comparisons[0].margin
    values = [0.0, -margin, margin]
    for comparison in comparisons:
        values += comparison.differences.values()
        values += [comparison.estimate.low, comparison.estimate.high] if comparison.estimate else []
    x = Scale(*_padded(values), 14, width - 14)
    unit = comparisons[0].unit
    parts = []
    if margin:
        parts.append(
            element(
                "rect",
                x=_point(x(-margin)),
                y=top,
                width=_point(x(margin) - x(-margin)),
                height=bottom - top,
                class_="margin",
            )
        )
    parts += _x_axis(
        x, top, bottom, f"difference from {comparisons[0].reference}, {unit}", signed=True
    )
    parts.append(
        element("line", x1=_point(x(0)), x2=_point(x(0)), y1=top, y2=bottom, class_="axis")
    )
    for row, comparison in enumerate(comparisons):
        y = top + ROW_HEIGHT * row + LABEL_OFFSET + 20
        color = color_class(row + 1)
        parts.append(_label(comparison.arm, y, width))
        if comparison.estimate:
            low, high = x(comparison.estimate.low), x(comparison.estimate.high)
            parts.append(
                element(
                    "line", x1=_point(low), x2=_point(high), y1=y, y2=y, class_=f"interval {color}"
                )
            )
            parts += [
                element(
                    "line",
                    x1=_point(end),
                    x2=_point(end),
                    y1=y - 6,
                    y2=y + 6,
                    class_=f"interval {color}",
                )
                for end in (low, high)
            ]
        for seed, value in comparison.differences.items():
            about = element("title", f"seed {seed}: {value:+.4f}")
            parts.append(
                element("circle", about, cx=_point(x(value)), cy=y, r=3, class_=f"ring {color}")
            )
        if comparison.mean is not None:
            parts.append(_dot(x(comparison.mean), y, row + 1, 6, f"mean: {comparison.mean:+.4f}"))
    return _svg(
        parts,
        width,
        bottom + 42,
        f"differences from {comparisons[0].reference} with 95 % intervals",
        class_,
    )


def curves_chart(curves: Sequence[ArmCurve], width: int, height: int, class_: str = "") -> Html:
    """Validation loss over training tokens:
    the mean of each arm's seeds, and a band from the lowest to the highest.

    Args:
        curves: at least one, each with at least two evaluations.
        width, height: in pixels.
        class_: as in `seeds_chart`.
    """
    left, right, top, bottom = 44, 14, 10, height - 44
    lowest = min(float(curve.low.min()) for curve in curves)
    highest = max(float(curve.high[_first_shown(curve)]) for curve in curves)
    x = Scale(0.0, max(float(curve.tokens[-1]) for curve in curves), left, width - right)
    y = Scale(*_padded([lowest, highest], 0.03), bottom, top)
    parts: list[Html] = []
    for value in y.ticks(42):
        parts.append(
            element(
                "line",
                x1=left,
                x2=width - right,
                y1=_point(y(value)),
                y2=_point(y(value)),
                class_="grid",
            )
        )
        parts.append(
            element("text", f"{value:g}", x=left - 8, y=_point(y(value) + 4), text_anchor="end")
        )
    for value in x.ticks(110):
        anchor = "end" if x(value) > width - right - 15 else "middle"
        parts.append(
            element(
                "text", format_count(value), x=_point(x(value)), y=bottom + 18, text_anchor=anchor
            )
        )
    parts.append(element("line", x1=left, x2=width - right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(
        element(
            "text",
            "training tokens",
            x=_point((left + width - right) / 2),
            y=height - 6,
            text_anchor="middle",
        )
    )
    clip = f"curves-{class_ or width}"
    parts.append(
        element(
            "clipPath",
            element("rect", x=left, y=top, width=width - left - right, height=bottom - top),
            id=clip,
        )
    )
    drawn: list[Html] = []
    for number, curve in enumerate(curves):
        there = [
            f"{x(token):.1f},{y(value):.1f}"
            for token, value in zip(curve.tokens, curve.low, strict=True)
        ]
        back = [
            f"{x(token):.1f},{y(value):.1f}"
            for token, value in zip(curve.tokens, curve.high, strict=True)
        ][::-1]
        drawn.append(
            element("polygon", points=" ".join(there + back), class_=f"band {color_class(number)}")
        )
    for number, curve in enumerate(curves):
        points = " ".join(
            f"{x(token):.1f},{y(value):.1f}"
            for token, value in zip(curve.tokens, curve.mean, strict=True)
        )
        drawn.append(element("polyline", points=points, class_=f"curve {color_class(number)}"))
    parts.append(element("g", *drawn, clip_path=f"url(#{clip})"))
    return _svg(parts, width, height, "validation bits per byte over training tokens", class_)


def _first_shown(curve: ArmCurve) -> int:
    """The evaluation that sets the height of the chart: never the one before training."""
    return max(1, round(HIDDEN_SHARE * (len(curve.mean) - 1)))


def arms_legend(names: Sequence[str]) -> Html:
    """The colors of the arms."""
    items = []
    for number, name in enumerate(names):
        line = element("line", x1=1, x2=25, y1=5, y2=5, class_=f"curve {color_class(number)}")
        items.append(
            element("li", element("svg", line, viewBox="0 0 26 10", aria_hidden="true"), name)
        )
    return element("ul", *items, class_="legend")


CHART_STYLE = """
.tiles { grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) } figcaption { margin-top: .5rem }
.numbers td { white-space: nowrap }
svg .arm0 { --c: var(--floor) } svg .arm1 { --c: var(--val) } svg .arm2 { --c: var(--bar) } svg .arm3 { --c: var(--ok) }
svg .arm4 { --c: #b0579f } svg .arm5 { --c: #b58900 } svg .arm6 { --c: #2aa198 }
svg .label { fill: var(--ink); font-weight: 600; font-size: 13px; paint-order: stroke; stroke: var(--paper); stroke-width: 4px }
svg .dot { fill: var(--c); stroke: var(--paper); stroke-width: 1.2 }
svg .ring { fill: var(--paper); stroke: var(--c); stroke-width: 1.4; opacity: .8 }
svg .mean { stroke: var(--c); stroke-width: 2.5 }
svg .pair { fill: none; stroke: var(--dim); stroke-width: 1; opacity: .55 }
svg .interval { stroke: var(--c); stroke-width: 2.2; stroke-linecap: round }
svg .margin { fill: var(--track); opacity: .8 }
svg .curve { fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round }
svg .band { fill: var(--c); opacity: .16 }
.verdicts { list-style: none; padding: 0; margin: 1rem 0 }
.verdicts li { border-left: .3rem solid var(--line); padding: .15rem 0 .15rem .9rem; margin: .7rem 0; font-size: 1.06rem }
.verdicts li.better { border-color: var(--ok) } .verdicts li.worse { border-color: var(--problem) }
.verdicts li.failures { border-color: var(--warning) } .verdicts li.equivalent { border-color: var(--bar) }
"""
