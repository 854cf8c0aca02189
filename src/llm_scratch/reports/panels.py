"""Plot loss, validation bits per byte, learning rate and gradient norm of runs, a panel each.

Tests: tests/reports/test_panels.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from llm_scratch.errors import DATA, UserError
from llm_scratch.reports.plot import (
    COLORS,
    DOTTED,
    LOSSES,
    Row,
    draw_floors,
    label_x_axis,
    running_mean,
    series,
    style_axes,
)

PANELS = {
    "loss": "loss (nats per token)",
    "val_bits_per_byte": "validation bits per byte",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}


def panel_figure(
    runs: Mapping[str, Sequence[Row]],
    x: str = "step",
    *,
    floors: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """Draw `PANELS` of one or more runs. Noisy series are pale, with their running mean on top.

    Args:
        runs: name -> rows of metrics.jsonl.
        x: the key of the lower axis, "step", "tokens" or "elapsed".
        floors: key of a panel -> name of a run -> the lowest value that a model can reach, if it is
            known.
    Raises:
        UserError: no row has a loss (exit code 3).
    """
    if not any(series(rows, x, y).size for rows in runs.values() for y in LOSSES):
        raise UserError(
            f"no loss to draw yet in {', '.join(runs) or 'no run'};"
            " let the run reach its first evaluation",
            DATA,
        )
    figure = Figure(figsize=(9.6, 6.8), dpi=150, layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    has_single_steps = False
    for axes, (key, label) in zip(grid.flat, PANELS.items()):
        for number, (name, rows) in enumerate(runs.items()):
            points = series(rows, x, key)
            color = COLORS[number % len(COLORS)]
            mean = running_mean(points) if key in ("loss", "grad_norm") else points
            if mean is not points:
                axes.plot(*points, color=color, lw=0.6, alpha=0.3)
                has_single_steps = True
            axes.plot(*mean, color=color, lw=1.8, label=name)
        draw_floors(axes, (floors or {}).get(key, {}), list(runs), labeled=False)
        axes.set_title(label, loc="left", fontsize=10)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        style_axes(axes)
    for axes in grid[1]:
        label_x_axis(axes, x, n_columns=2)
    handles = [
        Line2D([], [], color=COLORS[i % len(COLORS)], lw=1.8, label=name)
        for i, name in enumerate(runs)
    ]
    if has_single_steps:
        handles.append(Line2D([], [], color="0.5", lw=0.6, alpha=0.6, label="single steps"))
    if any((floors or {}).values()):
        handles.append(Line2D([], [], color="0.35", lw=1.2, ls=DOTTED, label="floor of the text"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize=9,
    )
    return figure
