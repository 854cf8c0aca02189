"""Draw the loss of runs. Proof: tests/cli/test_plot.py."""

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
    """Draw the loss of one run, or of several in one picture.

    examples:
      llm-scratch plot quickstart
      llm-scratch plot runs/a runs/b --out compare.png --x tokens
      llm-scratch plot runs/a runs/b --panels --x time
    """

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN")]]
    """run directories, or presets (the newest run of each)"""
    out: Annotated[str, option("FILE")] = ""
    """a name that ends in .png, .svg or .pdf; unless given .png and .svg: loss-plot (or panels) in the run, or loss-compare here"""
    x: Literal["step", "tokens", "time"] = "step"
    """what the lower axis counts"""
    panels: Flag = False
    """loss, bits per byte, learning rate and gradient, a panel each"""

    def run(self) -> None:
        """Draw, and say where the picture is."""
        if not self.runs:
            raise UserError("RUN is missing; `llm-scratch runs list` shows what there is")
        folders = [resolve_model_path(name) for name in self.runs]
        for folder in folders:
            if (run := load_run_info(folder)) is not None:
                run.check_has_curve("plot")
        name = "panels" if self.panels else "loss-plot"
        place = folders[0] / name if len(folders) == 1 else Path("loss-compare")
        places = [Path(self.out)] if self.out else [place.with_name(f"{place.name}.{kind}") for kind in ("png", "svg")]
        for path in places:
            check_can_write(path)
        draw(folders, places, {"time": "elapsed"}.get(self.x, self.x), self.panels)
        if self.json:
            print_json({"runs": folders, "pictures": places})
            return
        for path in places:
            console().print(str(path), soft_wrap=True)


def draw(folders: list[Path], places: list[Path], x: str = "step", panels: bool = False) -> None:
    """One picture of runs, written to each of `places`, with the floor of the loss for runs on stories.

    Raises:
        UserError: a run without metrics, a name that ends in no kind of picture (code 2), a folder that cannot be written.
    """
    from llm_scratch.training.panels import panel_figure
    from llm_scratch.training.plot import loss_figure, read_metrics, save_figure

    short = [folder.resolve().name for folder in folders]
    names = short if len(set(short)) == len(short) else [str(folder) for folder in folders]
    runs = {name: read_metrics(folder) for name, folder in zip(names, folders)}
    if old := [name for name, rows in runs.items() if x == "elapsed" and not any(x in row for row in rows)]:
        raise UserError(f"{', '.join(old)} did not write down its time; use --x tokens or --x step", DATA)
    known = {name: floor for name, folder in zip(names, folders) if (floor := _floor(folder, runs[name])) is not None}
    nats, bits = ({name: getattr(floor, unit) for name, floor in known.items()} for unit in ("nats_per_token", "bits_per_byte"))
    figure = panel_figure(runs, x, floors={"loss": nats, "val_bits_per_byte": bits}) if panels else loss_figure(runs, x, floors=nats)
    for path in places:
        save_figure(figure, path)


def _floor(folder: Path, rows: list[dict[str, Any]]) -> Floor | None:
    """The floor of a run; None where it is not known."""
    from llm_scratch.evaluation.floor import loss_floor

    run = load_run_info(folder)
    return None if run is None else loss_floor(run.config, rows)
