"""Numbers, times, sizes and command lines as people read them; text made safe to show.

Tests: tests/cli/test_terminal.py.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path


def format_duration(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def format_count(number: float) -> str:
    """A number in five letters or so: 9,999, 12.3k, 1.64 M, 7.2 G, 5 T."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:,.0f}{unit}"
    return f"{number:,.0f}"


def format_bytes(number: float) -> str:
    """Bytes as memory is counted: 950 B, 12.3 KiB, 1.64 GiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if number >= 1024**power:
            scaled = number / 1024**power
            return f"{scaled:.3g} {unit}" if scaled < 999.5 else f"{scaled:,.0f} {unit}"
    return f"{number:.0f} B"


def sanitize(text: str) -> str:
    """A model's text without control characters, which a terminal would obey; line breaks and tabs stay."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)


def shell_command(*words: str | Path) -> str:
    """A command line to copy, spaces in paths quoted: `llm-scratch generate 'my runs/x'`."""
    return f"llm-scratch {quote(*words)}"


def quote(*words: str | Path) -> str:
    """Words of a command line, each quoted where the shell of this system needs it."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)
