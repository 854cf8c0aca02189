"""Progress of `train(..., progress=True)`: a line that is updated in place, also in a notebook.

Tests: tests/training/test_progress_line.py.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, TextIO

from llm_scratch.formatting import format_duration
from llm_scratch.training.callbacks import Callback, TrainState
from llm_scratch.training.pace import Pace

UPDATE_SECONDS = 0.25
"""Least time between two updates; a notebook stores each one."""


class Line(Protocol):
    """A display of one line of text that can be replaced."""

    def show(self, text: str) -> None:
        """Replace the line."""
        ...

    def close(self) -> None:
        """Keep the line; later output begins below it."""
        ...


class TerminalLine:
    """A line of a text stream, rewritten after a carriage return."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.width = 0

    def show(self, text: str) -> None:
        """Overwrite the line; spaces cover the rest of a longer one."""
        self.stream.write("\r" + text.ljust(self.width))
        self.stream.flush()
        self.width = len(text)

    def close(self) -> None:
        """End the line, if there is one."""
        if self.width:
            self.stream.write("\n")
            self.stream.flush()
        self.width = 0


class NotebookLine:
    """An output of a notebook cell that is updated in place, until it is closed."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None

    def show(self, text: str) -> None:
        """Replace the output."""
        content = {"text/plain": text}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def close(self) -> None:
        """Keep the output as it is."""
        self._handle = None


def open_line() -> Line:
    """The output line of this notebook or terminal; does not import IPython itself."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return TerminalLine()
    from IPython.display import display

    return NotebookLine(display)


class ProgressLine(Callback):
    """A callback of `train` that shows step, losses, speed and time left in one line.

    Args:
        line: the display (default: the notebook cell or standard output).
        every: least seconds between two updates.
    """

    def __init__(self, line: Line | None = None, every: float = UPDATE_SECONDS) -> None:
        self.line = open_line() if line is None else line
        self.every = every
        self._shown = time.perf_counter()
        self._pace = Pace()
        self._first_tokens = 0

    def started(self, state: TrainState, resumed: bool) -> None:
        """Show the first or resumed step."""
        self._pace = Pace(state.step)
        self._first_tokens = state.tokens
        self._show(state)

    def step(self, state: TrainState, row: dict[str, float]) -> None:
        """Update the line, unless the last update is very recent."""
        if time.perf_counter() - self._shown >= self.every:
            self._show(state, row)

    def evaluated(self, state: TrainState, scores: dict[str, float]) -> None:
        """Update the line with the validation loss."""
        self._pace.evaluated(state.step)
        self._show(state)

    def finished(self, state: TrainState) -> None:
        """Show the final state, and keep the line."""
        self._show(state)
        self.line.close()

    def note(self, message: str) -> None:
        """Print a message below the line."""
        self.line.close()
        print(message)

    def warn(self, message: str) -> None:
        """Print a warning below the line."""
        self.note(f"warning: {message}")

    def _show(self, state: TrainState, row: dict[str, float] | None = None) -> None:
        """Compose the line and show it."""
        self._shown = time.perf_counter()
        done = state.step - self._pace.first_step
        seconds = self._pace.seconds_a_step(state.step)
        parts = [f"step {state.step:,}/{state.steps:,} ({state.step / max(state.steps, 1):.0%})"]
        if row is not None:
            parts.append(f"loss {row['loss']:.3f}")
        if "val_loss" in state.last_eval:
            parts.append(f"validation {state.last_eval['val_loss']:.3f}")
        if seconds > 0:
            tokens = (state.tokens - self._first_tokens) / done
            parts.append(f"{tokens / seconds:,.0f} tokens/s")
            left = format_duration(seconds * (state.steps - state.step))
            total = f"{format_duration(self._pace.elapsed)} in total"
            parts.append(f"{left} left" if state.step < state.steps else total)
        self.line.show(" · ".join(parts))
