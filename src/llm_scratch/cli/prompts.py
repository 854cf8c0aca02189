"""Read a text argument from a file or standard input.

Tests: tests/cli/test_generate.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm_scratch.data.plain_text import decode_text
from llm_scratch.errors import DATA, UserError


def read_text_argument(file: str) -> str:
    """Read a file, or standard input for "-"; a line break at the end is removed.

    The text is decoded like training text: see `data.plain_text`.

    Raises:
        UserError: no such file, not text, or empty (code 3).
    """
    name = "standard input" if file == "-" else file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = decode_text(name, data).removesuffix("\n")
    except OSError as e:
        raise UserError(f"{name}: {e.strerror}; use a text file", DATA) from e
    if not text:
        raise UserError(f"{name}: empty; it must contain the text to continue", DATA)
    return text
