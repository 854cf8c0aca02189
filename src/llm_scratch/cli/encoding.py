"""Standard streams whose encoding lacks a character: nothing fails, and what the program itself prints stays readable.

Output that goes to a file or a pipe on Windows is cp1252, which has no check mark and no arrow.
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


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """What to print in place of the characters that raised the error, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(LOOKALIKES)
    return text.encode("ascii", "replace").decode(), error.end
