"""Errors that a user can fix, exit codes, and "did you mean" suggestions.

A `UserError` states what is wrong, what was expected and what to do; the command line prints it as
one line and exits with its code. Any other exception is a bug and keeps its traceback.
Tests: tests/test_errors.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

USAGE, DATA, CHECKPOINT, DIVERGED, RESOURCES, INTERRUPTED = 2, 3, 4, 5, 6, 130
BUG, BROKEN_PIPE = 1, 141
EXIT_CODES = {
    0: "done",
    BUG: "unexpected error, a bug",
    USAGE: "wrong command, flag or value",
    DATA: "text or data missing, damaged or not downloaded",
    CHECKPOINT: "run, checkpoint or model missing or damaged",
    DIVERGED: "training diverged",
    RESOURCES: "out of memory or disk space",
    INTERRUPTED: "stopped by Ctrl-C; 129 or 143: by SIGHUP or SIGTERM",
    BROKEN_PIPE: "output pipe closed by its reader, as in `| head`",
}
"""Exit codes of the command line and their meanings."""


class UserError(Exception):
    """An error that the user can fix.

    Args:
        message: what is wrong, what was expected, what to do; one line.
        code: the exit code of the command line: 2 usage, 3 data, 4 checkpoint, 5 diverged, 6 out of
            memory or disk, 130 interrupted.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


MAX_REASON = 200
"""Characters of another library's message that are shown."""


def one_line(text: str, limit: int | None = None) -> str:
    """A text in one line without control characters and terminal colors, truncated to `limit`."""
    text = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)", "", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def describe_error(error: BaseException, named: bool = False) -> str:
    """Another library's exception for our messages: one line without control characters, truncated.

    Args:
        error: the exception.
        named: prefix it with the name of its class.
    """
    message = one_line(str(error), MAX_REASON)
    name = type(error).__name__
    return f"{name}: {message}" if named and message else message or name


class GenerationWarning(UserWarning):
    """Generated text differs from the request: the prompt did not fit, or the text ended early."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name: "did you mean 'verdict'?"; "" if none is near."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def unknown(
    kind: str, name: str, known: Iterable[str], code: int = USAGE, extensible: bool = False
) -> UserError:
    """The error for an unknown name, with the nearest known name or all of them.

    Args:
        kind: of the name, such as "preset".
        name: the unknown one.
        known: the valid names.
        code: exit code of the command line.
        extensible: whether a user's Python file may register more names; the error then mentions
            `--import`.

    Example: `unknown("preset", "verdct", ["verdict", "quickstart"])` reads
    "unknown preset 'verdct'; did you mean 'verdict'?".
    """
    names = sorted(known)
    hint = did_you_mean(name, names) or f"known: {', '.join(names)}"
    plugin = "; if a Python file of yours defines it, add --import FILE" if extensible else ""
    return UserError(f"unknown {kind} {name!r}; {hint}{plugin}", code)
