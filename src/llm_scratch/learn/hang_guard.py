"""Run a learner's code so that it ends: an endless loop is stopped, and `input()` does not wait.

Steps are counted and not seconds, so that a verdict does not depend on how busy the machine is. A
step is an instruction or a line of Python that is the learner's own; installed packages and this
one are not counted. Counting works wherever Python does, Windows and notebooks included. Two kinds
of code still hang: a single call into C that never returns, such as `sum(itertools.count())`, and
a loop whose bare `except:` also catches Ctrl-C.
Tests: tests/learn/test_hang_guard.py.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from llm_scratch.errors import describe_error

MAX_STEPS = 1_000_000
"""Steps of one call. No solution of an exercise takes a hundredth of them."""
_PACKAGE = str(Path(__file__).parents[1])
_INSTALLED = (*sysconfig.get_paths().values(), _PACKAGE, "<frozen")


class StepLimitError(BaseException):
    """A learner's code ran for too many steps; its own `except Exception` must not catch that."""


@contextmanager
def hang_guard(max_steps: int = MAX_STEPS) -> Iterator[None]:
    """Stop a learner's code inside the block after `max_steps` steps, or when it calls `input()`.

    A debugger uses the same hook of Python; while one is active, steps are not counted.

    Args:
        max_steps: instructions and lines of the learner's code.
    Raises:
        StepLimitError: the code did not end.
    """
    steps_left = max_steps

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps_left
        if event == "call":
            if frame.f_code.co_filename.startswith(_INSTALLED):
                return None
            # Python 3.11 reports no line for `while True: pass`, which jumps to itself
            frame.f_trace_opcodes = True
        steps_left -= 1
        if steps_left < 0:
            raise StepLimitError
        return count

    debugger, keyboard = sys.gettrace(), sys.stdin
    sys.stdin = StringIO()
    if debugger is None:
        sys.settrace(count)
    try:
        yield
    finally:
        sys.settrace(debugger)
        sys.stdin = keyboard


def describe_failure(error: BaseException, where: str = "") -> str:
    """Why a learner's code gave no value, as the end of "the function ..."; `where` is its line."""
    if isinstance(error, StepLimitError):
        return (
            f"did not end{where}; look at its loops: does a `while` change what its condition"
            " tests, and does a `for` add to the list that it goes through?"
        )
    if isinstance(error, EOFError):
        return f"waits for the keyboard{where}; its inputs are its arguments, without `input()`"
    return f"stops with {describe_error(error, named=True)}{where}"
