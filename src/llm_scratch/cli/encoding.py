"""Standard streams whose encoding lacks a character: nothing fails, a file gets the whole text, a terminal what it can show.

What a command writes to a file or a pipe is UTF-8, whatever the system's encoding: on Windows that is cp1252, in which most texts
would become "?".
Tests: tests/cli/test_encoding.py, tests/machines (Windows).
"""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress

LOOKALIKES = str.maketrans("✓✗→⏎≥─━│╭╮╰╯", "+x>$>--|++++")
"""One character for one, so that columns keep their width."""


def use_lookalikes() -> None:
    """Let standard output and error print a lookalike, or "?", for what they cannot; read a pipe as UTF-8, as files are read."""
    codecs.register_error("lookalike", _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="lookalike")
    with suppress(OSError, ValueError):  # closed, or read already by the program that called us
        if hasattr(sys.stdin, "reconfigure") and not sys.stdin.isatty():
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")


def write_files_as_utf8() -> None:
    """Let the output of a command that goes to a file or a pipe be UTF-8. Help and errors keep the system's encoding."""
    with suppress(OSError, ValueError):  # closed
        if hasattr(sys.stdout, "reconfigure") and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", errors="lookalike")


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """What to print in place of the characters that raised the error, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(LOOKALIKES)
    return text.encode("ascii", "replace").decode(), error.end
