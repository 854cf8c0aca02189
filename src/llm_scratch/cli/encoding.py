"""Output in any encoding: UTF-8 to files and pipes, lookalikes where a terminal needs them.

The system's encoding is not used for files and pipes:
on Windows it is cp1252, in which most scripts would become "?".
Tests: tests/cli/test_encoding.py, tests/machines (Windows).
"""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress

LOOKALIKES = str.maketrans("✓✗→⏎≥─━│╭╮╰╯", "+x>$>--|++++")
"""Single characters, so that columns keep their width."""


def use_lookalikes() -> None:
    """Replace what stdout or stderr cannot encode by lookalikes or "?"; read pipes as UTF-8."""
    codecs.register_error("lookalike", _lookalike)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="lookalike")
    with suppress(OSError, ValueError):  # closed, or already read by the calling program
        if hasattr(sys.stdin, "reconfigure") and not sys.stdin.isatty():
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")


def write_files_as_utf8() -> None:
    """Write a command's output to files and pipes as UTF-8; not its help and errors."""
    with suppress(OSError, ValueError):  # closed
        if hasattr(sys.stdout, "reconfigure") and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", errors="lookalike")


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    """The replacement for characters that cannot be encoded, and the position after them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(LOOKALIKES)
    return text.encode("ascii", "replace").decode(), error.end
