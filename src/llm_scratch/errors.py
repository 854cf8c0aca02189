"""The one kind of error that a user causes, and how to word "did you mean".

A `UserError` says what was wrong, what was expected and what to do; the command line prints it as one line
and exits with its code. Everything else that goes wrong is a bug of ours and keeps its traceback.
Proof: tests/test_errors.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USAGE, DATA, CHECKPOINT, DIVERGED, RESOURCES, INTERRUPTED = 2, 3, 4, 5, 6, 130


class UserError(Exception):
    """Something the person at the keyboard can mend.

    Args:
        message: what was wrong, what was expected, what to do; one line.
        code: the exit code of the command line: 2 usage, 3 data, 4 checkpoint, 5 diverged, 6 out of memory or disk, 130 interrupted.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


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
