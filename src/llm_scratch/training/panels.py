"""A run on one page: loss, held-out bits per byte, learning rate and gradient, one panel each; several runs over each other.

Proof: tests/training/test_panels.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from llm_scratch.errors import DATA, UserError
from llm_scratch.training.plot import COLOURS, LOSSES, Row, label_below, running_mean, series, tidy

PANELS = {
    "loss": "loss (nats per token)",
    "val_bits_per_byte": "held-out bits per byte",
    "lr": "learning rate",
    "grad_norm": "length of the gradient",
}


def panel_figure(runs: Mapping[str, Sequence[Row]], x: str = "step") -> Figure:
    """Draw `PANELS` of one or more runs. What flickers from step to step is pale, its mean over a fiftieth of the run is not.

    Args:
        runs: name -> rows of metrics.jsonl.
        x: the key of the lower axis, "step", "tokens" or "elapsed".
    Raises:
        UserError: no row has a loss (code 3).
    """
    if not any(series(rows, x, y).size for rows in runs.values() for y in LOSSES):
        raise UserError(f"no loss to draw yet in {', '.join(runs) or 'no run'}; let the run reach its first evaluation", DATA)
    figure = Figure(figsize=(9.6, 6.4), dpi=150, layout="constrained")
    grid = figure.subplots(2, 2, sharex=True)
    for axes, (key, label) in zip(grid.flat, PANELS.items()):
        for number, (name, rows) in enumerate(runs.items()):
            points, colour = series(rows, x, key), COLOURS[number % len(COLOURS)]
            mean = running_mean(points) if key in ("loss", "grad_norm") else points
            if mean is not points:
                axes.plot(*points, color=colour, lw=0.6, alpha=0.25)
            axes.plot(*mean, color=colour, lw=1.8, label=name)
        axes.set_title(label, loc="left", fontsize=10)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
        tidy(axes)
    for axes in grid[1]:
        label_below(axes, x)
    if len(runs) > 1:
        grid[0, 0].legend(frameon=False, fontsize=9)
    return figure
