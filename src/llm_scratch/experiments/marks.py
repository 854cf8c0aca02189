"""Marks of an experiment's charts: a linear axis, lines, dots, colors, and the legend.

Tests: tests/experiments/test_charts.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_scratch.reports.chart import ticks
from llm_scratch.reports.html import Html, element

N_COLORS = 6


def color_class(number: int) -> str:
    """The class that gives the arm with this number its color; 0 is the reference."""
    return f"arm{number if number <= N_COLORS else (number - 1) % N_COLORS + 1}"


def curve_class(number: int) -> str:
    """The classes of an arm's curve: its color, and dashes if an earlier arm has that color too."""
    return f"curve {'dashed ' if number > N_COLORS else ''}{color_class(number)}"


class Scale:
    """A linear axis in pixels: `low` is at `start`, `high` at `end`."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self, pixels_each: float) -> list[float]:
        """Round values on the axis, about one every `pixels_each` pixels."""
        return ticks(self.low, self.high, max(2, int(abs(self.end - self.start) / pixels_each)))


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of values with a margin on both sides."""
    low, high = min(values), max(values)
    margin = share * (high - low) or abs(high) * share or 1.0
    return low - margin, high + margin


def pixel(position: float) -> str:
    """A position as an attribute."""
    return f"{position:.1f}"


def vertical(x: float, top: float, bottom: float, class_: str) -> Html:
    """A vertical line."""
    return element("line", x1=pixel(x), x2=pixel(x), y1=top, y2=bottom, class_=class_)


def horizontal(y: float, left: float, right: float, class_: str) -> Html:
    """A horizontal line."""
    return element("line", x1=pixel(left), x2=pixel(right), y1=pixel(y), y2=pixel(y), class_=class_)


def label(words: str, x: float, y: float, anchor: str = "middle", class_: str = "") -> Html:
    """A text that starts, ends or has its middle at x."""
    return element("text", words, x=pixel(x), y=pixel(y), text_anchor=anchor, class_=class_)


def dot(x: float, y: float, class_: str = "", radius: float = 4.5, title: str = "") -> Html:
    """A filled circle, with a title that appears when it is pointed at."""
    about = [element("title", title)] * bool(title)
    kind = f"dot {class_}".strip()
    return element("circle", *about, cx=pixel(x), cy=pixel(y), r=radius, class_=kind)


def y_axis(y: Scale, left: float, right: float) -> list[Html]:
    """Horizontal grid lines with their values."""
    parts = []
    for value in y.ticks(42):
        parts.append(horizontal(y(value), left, right, "grid"))
        parts.append(label(f"{value:g}", left - 8, y(value) + 4, "end"))
    return parts


def svg(parts: Sequence[Html], width: int, height: float, about: str, class_: str) -> Html:
    """A chart of this size with a description."""
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width} {height:.0f}",
        role="img",
        aria_label=about,
        class_=class_,
    )


def gradient(n: int) -> list[str]:
    """Styles of `n` series in an order, from blue to orange."""
    return [mixed_color(i / max(1, n - 1)) for i in range(n)]


def mixed_color(share: float) -> str:
    """A style whose color goes from blue to orange as the share goes from 0 to 1."""
    return f"--c: color-mix(in oklch, var(--val) {100 * share:.0f}%, var(--bar))"


def legend(names: Sequence[str], styles: Sequence[str] = ()) -> Html:
    """Names with their colors: those of the arms, or those of `styles`."""
    items = []
    for number, name in enumerate(names):
        style = styles[number] if styles else ""
        line = element("line", x1=1, x2=25, y1=5, y2=5, class_=curve_class(number), style=style)
        items.append(
            element("li", element("svg", line, viewBox="0 0 26 10", aria_hidden="true"), name)
        )
    return element("ul", *items, class_="legend")
