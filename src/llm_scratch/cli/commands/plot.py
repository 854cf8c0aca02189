"""`plot`: draw the loss curves of runs.

Tests: tests/cli/test_plot.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console
from llm_scratch.errors import DATA, UserError
from llm_scratch.run_directory import RunInfo, open_run


@dataclass(frozen=True)
class Plot(ReportCommand):
    """Plot the loss of one run, or of several runs in one figure.

    examples:
      llm-scratch plot quickstart
      llm-scratch plot runs/a runs/b --out compare.png --x tokens
      llm-scratch plot runs/a runs/b --panels --x time
    """

    runs: Positional[Annotated[tuple[str, ...], option("RUN")]]
    """run directories, or presets (the newest run of each)"""
    out: Annotated[str, option("FILE")] = ""
    """a .png, .svg or .pdf file
    (default: loss-plot or panels as .png and .svg in the run; loss-compare for several runs)
    """
    x: Literal["step", "tokens", "time"] = "step"
    """unit of the x axis"""
    panels: Flag = False
    """one panel each for loss, bits per byte, learning rate and gradient norm"""

    def run(self) -> None:
        """Draw, and print the path of the figure."""
        if not self.runs:
            raise UserError("RUN is missing; list the runs with `llm-scratch runs list`")
        runs = [open_run(resolve_model_path(name)) for name in self.runs]
        for run in runs:
            run.check_has_curve("plot")
        name = "panels" if self.panels else "loss-plot"
        default = runs[0].path / name if len(runs) == 1 else Path("loss-compare")
        if self.out:
            paths = [Path(self.out)]
        else:
            paths = [default.with_name(f"{default.name}.{kind}") for kind in ("png", "svg")]
        for path in paths:
            check_can_write(path)
        draw(runs, paths, {"time": "elapsed"}.get(self.x, self.x), self.panels)
        if self.json:
            print_json({"runs": [run.path for run in runs], "pictures": paths})
            return
        for path in paths:
            console().print(str(path), soft_wrap=True)


def draw(runs: list[RunInfo], paths: list[Path], x: str = "step", panels: bool = False) -> None:
    """Draw one figure of runs and save it to each path, with the entropy floor for runs on stories.

    Raises:
        UserError: a run without a loss, an unknown image format (code 2),
            or a folder that is not writable.
    """
    from llm_scratch.evaluation.floor import loss_floor
    from llm_scratch.reports.panels import panel_figure
    from llm_scratch.reports.plot import loss_figure, save_figure

    short = [run.path.resolve().name for run in runs]
    names = short if len(set(short)) == len(short) else [str(run.path) for run in runs]
    curves = {name: run.metrics for name, run in zip(names, runs)}
    if old := [
        name
        for name, rows in curves.items()
        if x == "elapsed" and not any(x in row for row in rows)
    ]:
        raise UserError(f"{', '.join(old)} has no recorded times; use --x tokens or --x step", DATA)
    floors = {name: loss_floor(run.config, run.metrics) for name, run in zip(names, runs)}
    known = {name: floor for name, floor in floors.items() if floor is not None}
    nats, bits = (
        {name: getattr(floor, unit) for name, floor in known.items()}
        for unit in ("nats_per_token", "bits_per_byte")
    )
    if panels:
        figure = panel_figure(curves, x, floors={"loss": nats, "val_bits_per_byte": bits})
    else:
        figure = loss_figure(curves, x, floors=nats)
    for path in paths:
        save_figure(figure, path)
