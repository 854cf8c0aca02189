"""The one kind of error that a user causes, and how to word "did you mean".

A `UserError` says what was wrong, what was expected and what to do; the command line prints it as one line
and exits with its code. Everything else that goes wrong is a bug of ours and keeps its traceback.
Proof: tests/test_errors.py.
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
    BROKEN_PIPE: "the reader of the output ended, as in `| head`",
}
"""what each exit code of the command line means"""


class UserError(Exception):
    """Something the person at the keyboard can mend.

    Args:
        message: what was wrong, what was expected, what to do; one line.
        code: the exit code of the command line: 2 usage, 3 data, 4 checkpoint, 5 diverged, 6 out of memory or disk, 130 interrupted.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


MAX_REASON = 200
"""Characters of another library's message that are passed on."""


def one_line(text: str, limit: int | None = None) -> str:
    """A text as one line without control characters and colors of a terminal; what is over `limit` is cut."""
    text = re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)", "", text)
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if limit is None or len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def describe_error(error: BaseException, named: bool = False) -> str:
    """What another library's exception says, for a message of ours: as one line without control characters, cut.

    Args:
        error: the exception.
        named: with the name of its class.
    """
    said = one_line(str(error), MAX_REASON)
    name = type(error).__name__
    return f"{name}: {said}" if named and said else said or name


class GenerationWarning(UserWarning):
    """A text is not what was requested: its prompt did not fit into the context, or it ended early."""


def unknown(kind: str, name: str, known: Iterable[str], code: int = USAGE, extensible: bool = False) -> UserError:
    """An error for a name that is not in a table, with the nearest name or all of them.

    Args:
        kind: what the name is of, such as "preset".
        name: the unknown one.
        known: names in the table.
        code: exit code of the command line.
        extensible: whether a Python file of the user's may add names to the table; the error then names the flag for it.

    Example: `unknown("preset", "verdct", ["verdict", "quickstart"])` reads
    "unknown preset 'verdct'; did you mean 'verdict'?".
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    plugin = "; if a Python file of yours defines it, add --import FILE" if extensible else ""
    return UserError(f"unknown {kind} {name!r}; {hint}{plugin}", code)
