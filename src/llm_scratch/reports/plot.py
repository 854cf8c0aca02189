"""Plot loss curves of runs as PDF, PNG or SVG.

`loss_figure` draws the metrics of one or more runs; `LossPlot` draws them when training ends.
Figures are made without pyplot, so they need no display and leave no global state.
Tests: tests/reports/test_plot.py.
Source of the colors: Okabe and Ito 2008, "Color Universal Design",
https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, MultipleLocator

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.formatting import format_duration
from llm_scratch.run_directory import open_run
from llm_scratch.storage.files import atomic_file
from llm_scratch.training.callbacks import Callback, TrainState

Row = Mapping[str, Any]
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
LOSSES = "val_loss", "train_loss", "loss"  # validation, training, a single batch; nats per token
DASHED = (0, (4, 2))
# no dates: the same run gives the same file
FORMATS = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}


def series(rows: Iterable[Row], x: str, y: str) -> np.ndarray:
    """The points (x, y) of the rows that have both, finite: [2, n]."""
    pairs = [(row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None]
    points = np.asarray(pairs, dtype=float).reshape(-1, 2).T
    return points[:, np.isfinite(points).all(0)]


def loss_figure(
    runs: Mapping[str, Sequence[Row]],
    x: str = "step",
    *,
    floors: Mapping[str, float] | None = None,
    behind: str = "",
) -> Figure:
    """Draw the training and validation loss of one or more runs.

    Args:
        runs: name -> rows, each with `x`, "tokens" and any of `LOSSES`. Without "train_loss", the
            running mean of "loss" is drawn.
        x: the key of the lower axis, "step", "tokens" or "elapsed"; the upper axis counts tokens.
            If the runs have different numbers of tokens per step, "step" becomes "tokens".
        floors: name of a run -> the lowest loss that a model can reach on its text, if it is known.
        behind: name of a run that others may equal; its lines are wide and pale, below the others.
    Raises:
        UserError: no row has a loss (exit code 3).
    """
    if not any(series(rows, x, y).size for rows in runs.values() for y in LOSSES):
        raise UserError(
            f"no loss to draw yet in {', '.join(runs) or 'no run'};"
            " let the run reach its first evaluation",
            DATA,
        )
    scale = _tokens_per(x, runs.values())
    if (
        x == "step"
        and scale is None
        and len(runs) > 1
        and all(series(rows, x, "tokens").size for rows in runs.values())
    ):
        x = "tokens"
    figure = Figure(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, rows) in enumerate(runs.items()):
        color = COLORS[number % len(COLORS)]
        _draw_run(axes, name if len(runs) > 1 else "", rows, x, color, wide=name == behind)
    if len(runs) > 1:
        axes.plot([], [], color="0.5", lw=1.2, ls=DASHED, label="training")
    draw_floors(axes, floors or {}, list(runs))
    axes.set_ylabel("loss (nats per token)")
    label_x_axis(axes, x)
    if x != "tokens" and scale is not None:
        _add_token_axis(axes, *scale)
    style_axes(axes)
    axes.legend(frameon=False, fontsize=9)
    return figure


DOTTED = (0, (1, 1.5))
SAME_FLOOR = 0.005
"""Relative difference below which floors of several runs are one line: rounding differs."""


def draw_floors(
    axes: Axes, floors: Mapping[str, float], runs: Sequence[str], labeled: bool = True
) -> None:
    """Draw the floors of runs as dotted lines: a gray one if they agree, else in their colors.

    Args:
        axes: of the losses.
        floors: name of a run -> its floor.
        runs: the names of all runs, in the order of their colors.
        labeled: whether the legend includes them.
    """
    values = [floors[name] for name in runs if name in floors]
    if not values:
        return
    if max(values) <= (1 + SAME_FLOOR) * min(values):
        lines = [("0.35", "floor of the text", values[0])]
    else:
        lines = [
            (COLORS[number % len(COLORS)], f"floor of {name}", floors[name])
            for number, name in enumerate(runs)
            if name in floors
        ]
    for color, name, value in lines:
        label = f"{name}, {value:.3g}" if labeled else "_floor"
        axes.axhline(value, color=color, label=label, lw=1.2, ls=DOTTED)
    axes.autoscale_view(scalex=False)  # else a floor can lie on the edge of the axes


def label_x_axis(axes: Axes, x: str, n_columns: int = 1) -> None:
    """Label the lower axis, with few enough ticks at round numbers that none overlap.

    Args:
        axes: with their lines drawn.
        x: what the axis counts, "step", "tokens" or "elapsed".
        n_columns: axes side by side in the figure.
    """
    width = axes.get_figure(root=True).get_figwidth() / n_columns  # type: ignore[union-attr]
    n_ticks = max(2, int(width / LABEL_INCHES))
    if x == "elapsed":
        longest = axes.get_xlim()[1]  # of all axes that share it: a single panel may have no points
        step = _time_step(longest, n_ticks)
        in_hours = longest >= HOUR
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.xaxis.set_major_formatter(_hours if in_hours else _clock)
        axes.set_xlabel("time (hours:minutes)" if in_hours else "time")
        return
    axes.set_xlabel("tokens seen" if x == "tokens" else f"{x}s")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=n_ticks, integer=x != "tokens"))
    if x == "tokens":
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))


LABEL_INCHES = 0.85
"""Width of a tick label with its gap."""
MINUTE, HOUR = 60, 3600
TIME_STEPS = (
    1,
    2,
    5,
    10,
    15,
    30,
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR * n for n in (1, 2, 3, 6, 12, 24)),
)
"""Seconds between two ticks; above a day, powers of ten of days."""


def _time_step(longest: float, n_ticks: int) -> float:
    """Seconds between two of at most about `n_ticks` ticks of a time axis."""
    least = max(longest / n_ticks, TIME_STEPS[0])
    days = (24.0 * HOUR * size * 10**power for power in range(9) for size in (1, 2, 5))
    return next(step for step in (*TIME_STEPS, *days) if step >= least)


def _hours(seconds: float, _: float = 0) -> str:
    minutes = round(seconds / MINUTE)
    return f"{minutes // 60:,}:{minutes % 60:02}"


def _clock(seconds: float, _: float = 0) -> str:
    return format_duration(seconds)


def style_axes(axes: Axes) -> None:
    """Remove the frame and add a horizontal grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", lw=0.8)
    axes.set_axisbelow(True)


def _draw_run(
    axes: Axes, name: str, rows: Sequence[Row], x: str, color: str, wide: bool = False
) -> None:
    """Draw one run.

    Alone, training and validation differ in color; among others, its training line is pale and
    dashed.
    """
    style: dict[str, Any] = {"lw": 6, "alpha": 0.35, "zorder": 1.5} if wide else {"lw": 2}
    val, train, steps = (series(rows, x, loss) for loss in LOSSES)
    if steps.size and not name:
        axes.plot(*steps, color=BLUE, lw=0.8, alpha=0.35, label="single steps")
    train = train if train.size else running_mean(steps)
    if train.size and not name:
        axes.plot(*train, color=BLUE, lw=2, label=f"training, {train[1, -1]:.3g} at the end")
    elif train.size:
        axes.plot(
            *train, color=color, lw=1.2, ls=DASHED, alpha=0.7, label=None if val.size else name
        )
    if val.size:
        best = val[:, val[1].argmin()]
        position = _clock(best[0]) if x == "elapsed" else f"{x} {best[0]:,.1f}".removesuffix(".0")
        color, where = (color, "") if name else (VERMILION, f" at {position}")
        label = f"{name or 'validation'}, best {best[1]:.3g}{where}"
        axes.plot(*val, color=color, label=label, **style)
        if not wide:
            axes.plot(*best, "o", color=color, ms=6, mec="white", mew=1.2)


def running_mean(points: np.ndarray) -> np.ndarray:
    """Running mean over 1/50 of the points, [2, n] -> [2, fewer]; few points stay unchanged."""
    width = points.shape[1] // 50
    if width < 2:
        return points
    window = np.full(width, 1 / width)
    return np.stack([np.convolve(values, window, mode="valid") for values in points])


def _tokens_per(x: str, runs: Iterable[Sequence[Row]]) -> tuple[float, float] | None:
    """(start, slope) of tokens = start + slope * x if one line fits all runs, else None."""
    points = np.concatenate([series(rows, x, "tokens") for rows in runs], axis=1)
    if points.shape[1] < 2 or np.ptp(points[0]) == 0:
        return None
    first, last = points[:, points[0].argmin()], points[:, points[0].argmax()]
    slope = (last[1] - first[1]) / (last[0] - first[0])
    start = first[1] - slope * first[0]
    fits = slope > 0 and np.allclose(
        start + slope * points[0], points[1], atol=0.02 * np.ptp(points[1]), rtol=0
    )
    return (start, slope) if fits else None


def _add_token_axis(axes: Axes, start: float, slope: float) -> None:
    def tokens(x: Any) -> Any:
        return start + slope * x

    def x_of(tokens: Any) -> Any:
        return (tokens - start) / slope

    upper = axes.secondary_xaxis("top", functions=(tokens, x_of))
    upper.set_xlabel("tokens seen")
    upper.xaxis.set_major_formatter(EngFormatter(sep=" "))
    upper.spines["top"].set_visible(False)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure atomically, in the format of the file name: .pdf, .png or .svg.

    Raises:
        UserError: another format, or a folder that cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise UserError(
            f"cannot write a plot as {path.name!r}; use a name that ends in .{', .'.join(FORMATS)}"
        )
    with atomic_file(path) as part:
        figure.savefig(part, format=suffix, metadata=FORMATS[suffix])
    return path


def plot_runs(
    runs: Sequence[str | Path],
    out: str | Path,
    x: str = "step",
    *,
    floors: Mapping[str, float] | None = None,
) -> list[Path]:
    """Write the loss plot of one or more runs to `out`.pdf and `out`.png; returns the two paths.

    Raises:
        UserError: not a run directory (exit code 4), or a run without a loss (exit code 3).
    """
    figure = loss_figure(
        {Path(run).resolve().name: open_run(run).metrics for run in runs}, x, floors=floors
    )
    return [save_figure(figure, f"{out}.{kind}") for kind in ("pdf", "png")]


class LossPlot(Callback):
    """Draw the loss of a run when training ends: loss-plot.pdf and .png in its directory.

    Args:
        warn: called with a message if drawing fails.
    """

    def __init__(self, warn: Callable[[str], None] = print) -> None:
        self._warn = warn

    def closed(self, state: TrainState, error: BaseException | None) -> None:
        """Draw what was logged, also after an error."""
        folder = state.folder
        try:
            plot_runs([folder], folder / "loss-plot")
        except Exception as e:  # matplotlib raises various errors on a full disk
            if error is None:  # else that error is the more important one
                problem = describe_error(e, named=True)
                self._warn(
                    f"cannot draw the loss plot ({problem});"
                    f" `llm-scratch plot {folder}` draws it later"
                )
