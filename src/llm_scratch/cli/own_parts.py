"""`--parts`: check a learner's file, use it, keep a copy with the run, draw its curve.

Tests: tests/cli/test_own_parts.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.cli.folders import find_runs, same_settings
from llm_scratch.cli.optional_step import optional_step
from llm_scratch.cli.styles import GOOD, PROBLEM, WARNING
from llm_scratch.cli.terminal import keeps_lines, print_note, table
from llm_scratch.config import RunConfig
from llm_scratch.errors import UserError
from llm_scratch.formatting import shell_command
from llm_scratch.run_directory import RunInfo, open_run
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.callbacks import Callback, TrainState

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.own_parts.parts import PartsFile
    from llm_scratch.own_parts.verdict import Verdict

COPY = "parts.py"
"""Copy of the learner's file in the run directory, for people to read; it is never executed."""
CURVES = "loss-compare"
"""The plot of both loss curves in the run directory, as .png and .svg."""
MARKS = {"equal": ("✓", GOOD), "different": ("✗", PROBLEM), "unfinished": ("–", WARNING)}


@dataclass
class OwnParts(Callback):
    """The learner's parts of a run. As a callback it copies the file into the run directory.

    Attributes:
        config: the settings of the run, which name the file.
        file: the learner's file.
        verdicts: the result of the comparison for each part.
    """

    config: RunConfig
    file: PartsFile
    verdicts: Sequence[Verdict]

    def started(self, state: TrainState, resumed: bool) -> None:
        """Copy the file, for those who read the run later."""
        atomic_write(state.folder / COPY, self.file.path.read_text(encoding="utf-8"))


def check_file(file: str, config: RunConfig) -> tuple[PartsFile, list[Verdict]]:
    """Run a learner's file and compare its parts with the package's.

    Raises:
        UserError: no such file, no part in it, or a run whose model has other parts.
    """
    from llm_scratch.own_parts.parts import check_parts, check_settings, open_parts

    opened = open_parts(Path(file), f"--parts {file}")
    check_settings(config, opened.values)
    return opened, check_parts(opened, config)


@contextmanager
def parts_of_run(
    file: str, config: RunConfig, allow_different: bool, screen: Console
) -> Iterator[OwnParts]:
    """Check a learner's file, and use its parts inside the block.

    Args:
        file: of `--parts`.
        config: the settings of the run, without parts.
        allow_different: use parts that differ from the package's, too.
        screen: shows the verdicts.
    Raises:
        UserError: a part differs and that is not allowed; as `check_file`.
    """
    from llm_scratch.own_parts.parts import PARTS
    from llm_scratch.own_parts.speed import step_time_ratio
    from llm_scratch.own_parts.use import parts_in_use

    opened, verdicts = check_file(file, config)
    show_verdicts(file, verdicts, config, screen)
    different = [verdict.part for verdict in verdicts if verdict.state == "different"]
    if different and not allow_different:
        raise UserError(
            f"--parts {file}: {', '.join(different)} not equal to the package's; fix it (the"
            " differences are listed above), or train with it: --allow-different-parts"
        )
    parts = opened.written(verdicts)
    needed = ", ".join(name for name in different if PARTS[name].in_model)
    config = replace(config, parts=str(opened), different_parts=needed)
    with optional_step("steps not timed", "", screen):
        ratio = step_time_ratio(config, parts)
        print_note(f"a step takes {ratio:.1f} times as long as with the package's parts", screen)
    with parts_in_use(parts):
        yield OwnParts(config, opened, verdicts)


def show_verdicts(
    file: str, verdicts: Sequence[Verdict], config: RunConfig, screen: Console
) -> None:
    """Print a row for each part: equal or not, and how it differs."""
    from rich.text import Text

    from llm_scratch.own_parts.parts import PARTS

    grid = table("", "", "", left=3)
    grid.show_header = False
    for verdict in verdicts:
        mark, style = MARKS[verdict.state]
        unused = PARTS[verdict.part].unused(config)
        grid.add_row(Text(mark, style), verdict.part, _in_words(verdict, unused))
    screen.print(
        f"parts of {file}, compared with the package's on random inputs:",
        soft_wrap=keeps_lines(screen),
    )
    screen.print(grid)


def _in_words(verdict: Verdict, unused: str) -> str:
    if verdict.state == "unfinished":
        return "not written yet; the package's is used"
    if verdict.state == "different":
        return f"{verdict.message}\n{verdict.numbers}".rstrip()
    text = f"equal, largest difference {verdict.largest_difference:.1g}"
    return f"{text}; this run does not use it: {unused}" if unused else text


def show_curves(parts: OwnParts, folder: Path, screen: Console, debug: bool) -> None:
    """Plot the loss of a run with a learner's parts beside a run with the package's parts.

    The second run is the newest one in runs/ with the same settings.
    """
    from llm_scratch.evaluation.floor import loss_floor
    from llm_scratch.reports.plot import loss_figure, save_figure
    from llm_scratch.reports.settings import nearest_preset, train_words

    reference = reference_run(parts.config)
    if reference is None:
        plain, out = without_parts(parts.config), "runs/package"
        train = shell_command(*train_words(plain, nearest_preset(plain), out))
        print_note(
            f"no run with the package's parts to compare with; train one:"
            f" {train}, then {shell_command('plot', folder, out)}",
            screen,
        )
        return
    pictures = [folder / f"{CURVES}.{kind}" for kind in ("png", "svg")]
    with optional_step(
        "curves not drawn", shell_command("plot", folder, reference.path), screen, debug
    ):
        own, package = open_run(folder), "the package's parts"
        curves = {parts.file.path.name: own.metrics, package: reference.metrics}
        floor = loss_floor(own.config, own.metrics)
        floors = {} if floor is None else {package: floor.nats_per_token}
        figure = loss_figure(curves, floors=floors, behind=package)
        for picture in pictures:
            save_figure(figure, picture)
        print_note(f"curves: {pictures[0]}, beside {reference.path}", screen)


def without_parts(config: RunConfig) -> RunConfig:
    """The same settings with the package's parts."""
    return replace(config, parts="", different_parts="")


def reference_run(config: RunConfig) -> RunInfo | None:
    """The newest run in runs/ with these settings, the package's parts and a curve, or None."""
    plain = without_parts(config)
    runs = [run for run in find_runs() if run.has_curve and same_settings(run.config, plain)]
    return runs[-1] if runs else None


@contextmanager
def parts_to_load(file: str) -> Iterator[None]:
    """Use a learner's file inside the block, if one is named; note each part that differs."""
    if not file:
        yield
        return
    from llm_scratch.own_parts.use import parts_in_use
    from llm_scratch.presets import preset

    opened, verdicts = check_file(file, preset("quickstart"))
    for verdict in verdicts:
        if verdict.state == "different":
            print_note(f"{verdict.part} differs from the package's: {verdict.message}")
    with parts_in_use(opened.written(verdicts)):
        yield
