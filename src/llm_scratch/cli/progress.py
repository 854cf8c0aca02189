"""Show the progress of training: a bar on a terminal, lines elsewhere, and log.txt.

Tests: tests/cli/test_progress.py.
"""

from __future__ import annotations

import textwrap
from collections import deque
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.terminal import boxed, excerpt, keeps_lines, print_warning
from llm_scratch.formatting import format_bytes, format_count, format_duration, shell_command
from llm_scratch.training.append_log import DurableLog
from llm_scratch.training.callbacks import Callback, TrainState
from llm_scratch.training.pace import Pace

SAMPLE_CHARACTERS = 480
MIN_BAR_WIDTH = 8
"""Columns; a narrower bar would show nothing."""


def join_to_fit(parts: Sequence[str], width: int) -> str:
    """Join the first parts that fit into a line of `width` columns; empty parts are skipped."""
    line = ""
    for part in filter(None, parts):
        longer = f"{line} · {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


class ProgressBar(Progress):
    """A progress bar above a status line; parts that do not fit a narrow terminal are left out.

    Attributes:
        status: the parts of the status line, most important first.
    """

    status: Sequence[str] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the status line."""
        if not self.tasks:
            return
        task, width = self.tasks[0], self.console.width
        steps, clock = f"step {task.completed:,}/{task.total:,}", task.fields["clock"]
        if len(steps) + len(clock) + MIN_BAR_WIDTH + 2 <= width:
            yield self.make_tasks_table(self.tasks)
        else:
            yield Text(join_to_fit([steps, clock], width) or f"{task.percentage:.0f}%")
        yield Text(join_to_fit(self.status, min(width, 80)))


class ProgressDisplay(Callback):
    """Show a run on the command line, and write the same lines to its log.txt.

    Args:
        console: shows a bar if it is a terminal, else lines.
        every: seconds between two lines.
    """

    def __init__(self, console: Console, every: float = 10.0) -> None:
        self.console = console
        self.every = every
        self.bar: ProgressBar | None = None
        self.log: DurableLog | None = None
        self.recent: deque[dict[str, float]] = deque(maxlen=20)  # rows of the last steps
        self.last_line = 0.0  # perf_counter()
        self.pace = Pace()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.log is not None:
            self.log.close()

    def started(self, state: TrainState, resumed: bool) -> None:
        """Open log.txt and print how far the run is."""
        self.log = DurableLog(state.folder / "log.txt", self.warn)
        self.last_line = perf_counter()
        self.pace = Pace(state.step)
        if state.step >= state.steps:
            self._log(f"all {state.steps:,} steps are done already; {self._how_to_extend(state)}")
            return
        if state.description:
            self._log(f"products: {state.description}")
        if resumed:
            self._log(f"resuming at step {state.step:,} of {state.steps:,}")
        if self.console.is_terminal:
            self.bar = ProgressBar(
                TextColumn("step {task.completed:,}/{task.total:,}"),
                BarColumn(None),
                TextColumn("{task.fields[clock]}"),
                console=self.console,
                expand=True,
                refresh_per_second=8,
            )
            self.bar.add_task("", total=state.steps, completed=state.step, clock="")
            self.bar.start()

    def _how_to_extend(self, state: TrainState) -> str:
        """The command that trains a finished run longer."""
        cfg = state.config.train
        if cfg.epochs is None:
            longer = ("--train.steps", str(2 * state.steps))
        else:
            longer = ("--train.epochs", str(2 * cfg.epochs))
        return (
            f"{shell_command('train', '--resume', state.folder, *longer)} trains longer,"
            " --fresh --force starts over"
        )

    def step(self, state: TrainState, row: dict[str, float]) -> None:
        """Update the bar, or print a line if the last one is `every` seconds old."""
        self.recent.append(row)
        if self.bar is not None:
            self.bar.status = self._status(state)
            self.bar.update(self.bar.task_ids[0], completed=state.step, clock=self._elapsed(state))
        now = perf_counter()
        if now - self.last_line >= self.every or state.step == state.steps:
            self.last_line = now
            self._log(self._line(state, row), quiet=self.bar is not None)

    def evaluated(self, state: TrainState, scores: dict[str, float]) -> None:
        """Print the validation loss."""
        self.pace.evaluated(state.step)
        self._log(
            f"step {state.step:>5,}  validation loss {scores['val_loss']:.4f}  train loss"
            f" {scores['train_loss']:.4f}  {scores['val_bits_per_byte']:.4f} bits/byte"
        )

    def sampled(self, state: TrainState, text: str) -> None:
        """Print a sample, on a terminal in a box."""
        text = excerpt(text, SAMPLE_CHARACTERS)
        if self.console.is_terminal:
            title = f"step {state.step:,} · {format_count(state.tokens)} tokens"
            self.console.print(boxed(text, title, self.console.width))
        wrapped = [part for line in text.splitlines() for part in textwrap.wrap(line, 76) or [""]]
        self._log(
            "\n".join(
                [f"step {state.step:>5,}  sample:", *(f"    {line}".rstrip() for line in wrapped)]
            ),
            self.console.is_terminal,
        )

    def note(self, message: str) -> None:
        """Print and log a message."""
        self._log(message)

    def warn(self, message: str) -> None:
        """Print and log a warning."""
        if self.console.quiet and is_quiet():
            print_warning(message, self.console)
        self._log(f"warning: {message}")

    def finished(self, state: TrainState) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _log(self, line: str, quiet: bool = False) -> None:
        """Print a line and append it to log.txt; with `quiet` only to log.txt."""
        if not quiet:
            self.console.print(Text(line), soft_wrap=keeps_lines(self.console))
        if self.log is not None:
            self.log.append(line + "\n")

    def _speed(self) -> float:
        """Tokens per second over the last steps, without evaluations."""
        tokens = self.recent[-1]["tokens"] / self.recent[-1]["step"] * len(self.recent)
        return tokens / max(sum(row["seconds"] for row in self.recent), 1e-9)

    def _loss(self) -> float:
        """The mean loss of the last steps, in nats per token."""
        return sum(row["loss"] for row in self.recent) / len(self.recent)

    def _mfu(self) -> str:
        """The mean MFU of the last steps; "" if it was not measured."""
        shares = [row["mfu"] for row in self.recent if "mfu" in row]
        return f"MFU {sum(shares) / len(shares):.0%}" if shares else ""

    def _memory(self) -> str:
        """The peak memory so far; "" if the system does not report it."""
        peak = self.recent[-1].get("peak_memory_bytes")
        return format_bytes(peak) if peak else ""

    def _elapsed(self, state: TrainState) -> str:
        """Elapsed time, and time left at the speed so far."""
        left = self.pace.seconds_a_step(state.step) * (state.steps - state.step)
        return f"{format_duration(self.pace.elapsed)} elapsed, {format_duration(left)} left"

    def _status(self, state: TrainState) -> list[str]:
        """The parts of the status line, most important first."""
        scores: Any = state.last_eval
        if scores:
            validation = (
                f"val {scores['val_loss']:.3f} = {scores['val_bits_per_byte']:.3f} bits/byte"
            )
        else:
            validation = ""
        speed = f"{format_count(self._speed())} tok/s"
        return [
            f"loss {self._loss():.3f}",
            validation,
            speed,
            self._mfu(),
            self._memory(),
            f"{format_count(state.tokens)} tokens",
        ]

    def _line(self, state: TrainState, row: dict[str, float]) -> str:
        """A line of the log: step, losses, learning rate, norm, speed, memory, time."""
        width = len(str(state.steps))
        machine = "".join(f"{part} | " for part in (self._mfu(), self._memory()) if part)
        return (
            f"step {state.step:0{width}}/{state.steps} ({state.step / state.steps:.2%}) | loss"
            f" {self._loss():.4f} | lr {row['lr']:.3g} | grad norm {row['grad_norm']:.3g} |"
            f" {row['seconds'] * 1000:.0f} ms | {self._speed():,.0f} tok/s |"
            f" {machine}{state.tokens:,} tokens |"
            f" {state.last_eval.get('val_bits_per_byte', float('nan')):.4f} bits/byte |"
            f" {self._elapsed(state)}"
        )
