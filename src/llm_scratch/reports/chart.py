"""Draw the loss of a run as an inline SVG that takes its colors from the page.

Tests: tests/reports/test_chart.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from llm_scratch.formatting import format_count
from llm_scratch.reports.html import Html, element

MAX_POINTS = 600
"""Points of a line; more are indistinguishable."""
HEADROOM = 1.1
"""Height of the chart as a multiple of the first loss: outliers do not set the scale."""


@dataclass(frozen=True)
class LossLines:
    """The lines of a loss chart, each [2, n]: steps and losses in nats per token."""

    batch: np.ndarray
    train: np.ndarray
    val: np.ndarray
    floor: float | None

    @property
    def best(self) -> tuple[float, float] | None:
        """Step and loss of the lowest validation loss; None without an evaluation."""
        if not self.val.shape[1]:
            return None
        lowest = int(self.val[1].argmin())
        return float(self.val[0, lowest]), float(self.val[1, lowest])

    @property
    def is_empty(self) -> bool:
        """Whether no row has a loss."""
        return not any(line.shape[1] for line in (self.batch, self.train, self.val))

    def limits(self) -> tuple[float, float, float]:
        """Last step, lowest and highest loss of the chart."""
        shown = [line for line in (self.batch, self.train, self.val) if line.shape[1]]
        last = max(float(line[0].max()) for line in shown)
        low = min(float(line[1].min()) for line in shown)
        high = max(float(line[1].max()) for line in shown)
        first = max(float(line[1, 0]) for line in shown)
        if self.floor is not None:
            low = min(low, self.floor)
        return last, low, min(high, HEADROOM * first)


def ticks(low: float, high: float, n: int) -> list[float]:
    """About `n` round numbers from `low` to `high`: multiples of 1, 2 or 5 times a power of ten."""
    span = (high - low) / max(n, 1)
    if not span > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= span * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin_out(line: np.ndarray, n: int = MAX_POINTS) -> np.ndarray:
    """Downsample a line [2, m] to about `n` means of a stretch each; the last point is kept."""
    if line.shape[1] <= n:
        return line
    parts = np.array_split(line, n, axis=1)
    means = np.stack([part.mean(axis=1) for part in parts], axis=1)
    means[:, -1] = line[:, -1]
    return means


class Frame:
    """The plot area of a loss chart: converts steps and losses to pixels."""

    left, right, top, bottom = 40, 12, 10, 40
    """margins in pixels"""

    def __init__(self, lines: LossLines, width: int, height: int) -> None:
        last, low, high = lines.limits()
        margin = 0.06 * (high - low) or 0.5
        self.low, self.high, self.last = max(0.0, low - margin), high + margin, max(last, 1.0)
        self.width, self.height = width, height

    def x(self, step: float) -> float:
        """The pixel of a step."""
        return self.left + (self.width - self.left - self.right) * step / self.last

    def y(self, loss: float) -> float:
        """The pixel of a loss."""
        share = (self.high - loss) / (self.high - self.low)
        return self.top + (self.height - self.top - self.bottom) * share

    def polyline(self, line: np.ndarray, kind: str) -> Html:
        """A line [2, n] of steps and losses."""
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in thin_out(line).T)
        return element("polyline", points=points, class_=kind)

    def horizontal(self, y: float | str, kind: str) -> Html:
        """A line over the whole width."""
        return element("line", x1=self.left, x2=self.width - self.right, y1=y, y2=y, class_=kind)

    def axes(self) -> list[Html]:
        """Grid lines with their losses, and the axis of steps."""
        right = self.width - self.right
        floor = self.height - self.bottom
        parts: list[Html] = []
        for loss in ticks(self.low, self.high, 8):
            parts.append(self.horizontal(f"{self.y(loss):.1f}", "grid"))
            place = {"x": f"{self.left - 8}", "y": f"{self.y(loss) + 4:.1f}"}
            parts.append(element("text", f"{loss:g}", **place, text_anchor="end"))
        for step in ticks(0, self.last, max(2, self.width // 110)):
            place = {"x": f"{self.x(step):.1f}", "y": f"{floor + 18}"}
            anchor = "end" if self.x(step) > right - 15 else "middle"
            parts.append(element("text", format_count(step), **place, text_anchor=anchor))
        parts.append(self.horizontal(floor, "axis"))
        place = {"x": f"{(self.left + right) / 2:.0f}", "y": f"{self.height - 4}"}
        parts.append(element("text", "step", **place, text_anchor="middle"))
        return parts

    def clip_path(self, name: str) -> Html:
        """The plot area as a clip path."""
        width = self.width - self.left - self.right
        height = self.height - self.top - self.bottom
        area = element("rect", x=self.left, y=self.top, width=width, height=height)
        return element("clipPath", area, id=name)


def loss_chart(lines: LossLines, width: int, height: int, class_: str = "") -> Html:
    """A chart of `width` x `height` pixels: training and validation loss over steps, and the floor.

    Args:
        lines: at least one of them with a point.
        width, height: in pixels.
        class_: of the svg element; the page has a wide and a narrow chart and shows one of them.
    """
    frame = Frame(lines, width, height)
    clip = f"plot-{class_ or width}"
    parts = [*frame.axes(), frame.clip_path(clip)]
    drawn = [
        frame.polyline(line, kind)
        for line, kind in ((lines.batch, "batch"), (lines.train, "train"), (lines.val, "val"))
        if line.shape[1] > 1
    ]
    parts.append(element("g", *drawn, clip_path=f"url(#{clip})"))
    if lines.floor is not None:
        parts.append(frame.horizontal(f"{frame.y(lines.floor):.1f}", "floor"))
    if (best := lines.best) is not None:
        center = {"cx": f"{frame.x(best[0]):.1f}", "cy": f"{frame.y(best[1]):.1f}"}
        parts.append(element("circle", **center, r=4.5, class_="best"))
    label = "Training and validation loss in nats per token over optimizer steps"
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=label, class_=class_
    )


def legend(lines: LossLines) -> Html:
    """The legend: each line of the chart with its last or best value."""
    entries: list[tuple[str, str]] = []
    if lines.val.shape[1] and (best := lines.best) is not None:
        entries.append(("val", f"validation, best {best[1]:.3f} at step {best[0]:,.0f}"))
    if lines.train.shape[1]:
        entries.append(("train", f"training, {lines.train[1, -1]:.3f} at the end"))
    if lines.batch.shape[1]:
        entries.append(("batch", "single batches"))
    if lines.floor is not None:
        entries.append(("floor", f"floor, the entropy of the text: {lines.floor:.3f}"))
    items = []
    for kind, label in entries:
        swatch = element(
            "svg",
            element("line", x1=1, x2=25, y1=5, y2=5, class_=kind),
            viewBox="0 0 26 10",
            aria_hidden="true",
        )
        items.append(element("li", swatch, label))
    return element("ul", *items, class_="legend")
