"""`plot`: draw the loss curves of runs.

Tests: tests/cli/test_plot.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import check_can_write, load_run_info, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console
from llm_scratch.errors import DATA, UserError

if TYPE_CHECKING:
    from llm_scratch.evaluation.floor import Floor


@dataclass(frozen=True)
class Plot(ReportCommand):
    """Plot the loss of one run, or of several runs in one figure.

    examples:
      llm-scratch plot quickstart
      llm-scratch plot runs/a runs/b --out compare.png --x tokens
      llm-scratch plot runs/a runs/b --panels --x time
    """

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN")]]
    """run directories, or presets (the newest run of each)"""
    out: Annotated[str, option("FILE")] = ""
    """a .png, .svg or .pdf file (default: loss-plot or panels as .png and .svg in the run; loss-compare for several runs)"""
    x: Literal["step", "tokens", "time"] = "step"
    """unit of the x axis"""
    panels: Flag = False
    """one panel each for loss, bits per byte, learning rate and gradient norm"""

    def run(self) -> None:
        """Draw, and print the path of the figure."""
        if not self.runs:
            raise UserError("RUN is missing; list the runs with `llm-scratch runs list`")
        folders = [resolve_model_path(name) for name in self.runs]
        for folder in folders:
            if (run := load_run_info(folder)) is not None:
                run.check_has_curve("plot")
        name = "panels" if self.panels else "loss-plot"
        default = folders[0] / name if len(folders) == 1 else Path("loss-compare")
        paths = [Path(self.out)] if self.out else [default.with_name(f"{default.name}.{kind}") for kind in ("png", "svg")]
        for path in paths:
            check_can_write(path)
        draw(folders, paths, {"time": "elapsed"}.get(self.x, self.x), self.panels)
        if self.json:
            print_json({"runs": folders, "pictures": paths})
            return
        for path in paths:
            console().print(str(path), soft_wrap=True)


def draw(folders: list[Path], paths: list[Path], x: str = "step", panels: bool = False) -> None:
    """Draw one figure of runs and save it to each path, with the entropy floor for runs on stories.

    Raises:
        UserError: a run without metrics, an unknown image format (code 2), or a folder that is not writable.
    """
    from llm_scratch.reports.panels import panel_figure
    from llm_scratch.reports.plot import loss_figure, save_figure
    from llm_scratch.training.run_logger import read_metrics

    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    runs = {name: read_metrics(folder) for name, folder in zip(names, folders)}
    if old := [name for name, rows in runs.items() if x == "elapsed" and not any(x in row for row in rows)]:
        raise UserError(f"{', '.join(old)} has no recorded times; use --x tokens or --x step", DATA)
    known = {name: floor for name, folder in zip(names, folders) if (floor := _floor(folder, runs[name])) is not None}
    nats, bits = ({name: getattr(floor, unit) for name, floor in known.items()} for unit in ("nats_per_token", "bits_per_byte"))
    figure = panel_figure(runs, x, floors={"loss": nats, "val_bits_per_byte": bits}) if panels else loss_figure(runs, x, floors=nats)
    for path in paths:
        save_figure(figure, path)


def _floor(folder: Path, rows: list[dict[str, Any]]) -> Floor | None:
    """The entropy floor of a run's loss; None where it is unknown."""
    from llm_scratch.evaluation.floor import loss_floor

    run = load_run_info(folder)
    return None if run is None else loss_floor(run.config, rows)
