"""Show the progress of an experiment: a bar on a terminal, and a line for each run.

Tests: tests/cli/test_compare.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llm_scratch.cli.folders import check_can_write
from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.terminal import console, keeps_lines, print_warning
from llm_scratch.experiments.runner import ExperimentCallback
from llm_scratch.experiments.verdict import Comparison, format_value
from llm_scratch.formatting import format_duration
from llm_scratch.training.callbacks import Callback, TrainState

if TYPE_CHECKING:
    from llm_scratch.experiments.results import RunResult


class ExperimentProgress(ExperimentCallback):
    """Print each finished run with the differences so far; with a bar if `screen` is a terminal.

    Args:
        screen: where to print.
        folder: of the experiment.
    """

    def __init__(self, screen: Console, folder: Path) -> None:
        self.screen = screen
        self.folder = folder
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            TextColumn("run {task.fields[run]}"),
            TimeRemainingColumn(),
            console=screen,
            disable=not screen.is_terminal or is_quiet(),
            expand=True,
        )
        self.n_runs = 0
        self.n_done = 0
        self.task = self.bar.add_task("", total=None, run="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def started(self, n_runs: int, n_done: int) -> None:
        """Print what is left to run."""
        self.n_runs, self.n_done = n_runs, n_done
        self.bar.update(self.task, total=n_runs, completed=n_done)
        resumed = f"; {n_done} are done already" if n_done else ""
        self._print(f"{self.folder}: {n_runs} runs{resumed}; the same command resumes after a stop")

    def note(self, message: str) -> None:
        """Print what was decided."""
        self._print(message)

    def run_started(self, arm: str, seed: int) -> Callback:
        """Name the run in the bar."""
        self.bar.update(
            self.task,
            description=f"seed {seed}, {arm}",
            run=f"{self.n_done + 1}/{self.n_runs}" if self.n_runs else "of the search",
        )
        return StepProgress(self)

    def step(self, share: float) -> None:
        """Move the bar to `share` of the current run."""
        self.bar.update(
            self.task, completed=min(self.n_done + share, self.n_runs) if self.n_runs else None
        )

    def candidate_finished(self, result: RunResult) -> None:
        """Print the value of a run of the search."""
        value = result.reason if result.value is None else format_value(result.value)
        self._print(f"search, {result.arm}: {value} in {format_duration(result.seconds)}")

    def run_finished(self, result: RunResult, comparisons: Sequence[Comparison]) -> None:
        """Print the value of the run, and the difference of each arm so far."""
        self.n_done += 1
        self.step(0.0)
        value = result.reason if result.value is None else format_value(result.value)
        line = f"seed {result.seed}, {result.arm}: {value} in {format_duration(result.seconds)}"
        so_far = [text for comparison in comparisons if (text := difference_so_far(comparison))]
        self._print(f"{line}; so far {', '.join(so_far)}" if so_far else line)

    def _print(self, line: str) -> None:
        if not is_quiet():
            self.screen.print(line, soft_wrap=keeps_lines(self.screen))


@contextmanager
def running(folder: Path) -> Iterator[ExperimentProgress]:
    """Prepare this process for the runs of an experiment in `folder`, and show their progress."""
    from llm_scratch.hardware.allocator import keep_freed_memory

    check_can_write(folder)
    keep_freed_memory()
    with ExperimentProgress(console(), folder) as progress:
        yield progress


class StepProgress(Callback):
    """Callbacks of a run that move the bar of its experiment; a warning is printed."""

    def __init__(self, progress: ExperimentProgress) -> None:
        self.progress = progress

    def step(self, state: TrainState, row: dict[str, float]) -> None:
        """Move the bar."""
        self.progress.step(state.step / state.steps)

    def note(self, message: str) -> None:
        """Print nothing."""

    def warn(self, message: str) -> None:
        """Print the warning."""
        print_warning(message, self.progress.screen)


def difference_so_far(comparison: Comparison) -> str:
    """The difference of an arm with its interval: "mimetic −0.0123 [−0.0201, −0.0045]", or ""."""
    if comparison.mean is None:
        return ""
    mean = format_value(comparison.mean, signed=True)
    if comparison.estimate is None:
        return f"{comparison.arm} {mean}"
    low, high = (
        format_value(bound, signed=True)
        for bound in (comparison.estimate.low, comparison.estimate.high)
    )
    return f"{comparison.arm} {mean} [{low}, {high}]"
