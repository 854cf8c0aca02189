"""Format numbers, durations, sizes and command lines for people; sanitize text for terminals.

Tests: tests/cli/test_terminal.py, tests/test_formatting.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY
MIN_DAYS = 2
"""days from which minutes are no longer shown"""
MIN_YEARS = 2

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal interprets or that cannot be encoded.

C0 and C1 controls except line breaks and tabs, the embeddings, overrides and isolates of
bidirectional text (they reorder the text after them), and surrogates.
"""


def format_duration(seconds: float) -> str:
    """Format seconds in one or two units: 45 s, 2 min 10 s, 3 h 20 min, 35 days, 2.3 years.

    Args:
        seconds: 0 or more; below 1, tenths are shown.
    """
    if seconds < 0.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    if round(seconds) < HOUR:
        return _two_units(round(seconds), MINUTE, "min", 1, "s")
    if seconds < MIN_DAYS * DAY:
        return _two_units(round(seconds / MINUTE) * MINUTE, HOUR, "h", MINUTE, "min")
    if seconds < 10 * DAY:
        hours = round(seconds / HOUR)
        return f"{hours // 24} days {hours % 24} h" if hours % 24 else f"{hours // 24} days"
    if seconds < MIN_YEARS * YEAR:
        return f"{seconds / DAY:.0f} days"
    return f"{seconds / YEAR:,.1f} years"


def _two_units(seconds: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    whole, rest = divmod(seconds, large)
    return f"{whole} {large_unit}" + (f" {rest // small} {small_unit}" if rest else "")


def format_count(number: float) -> str:
    """Format a number in about five characters: 9,999, 12.3k, 1.64 M, 7.2 G, 5 T."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if unit == "k" else size)
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:,.0f}{unit}"
    return f"{number:,.0f}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and what it counts: 1 layer, 1,200 layers, 2 batches.

    Args:
        number: of things.
        noun: for one of them.
        plural: for any other number (default: `noun` with an s).
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def format_bytes(number: float) -> str:
    """Format bytes in binary units: 950 B, 12.3 KiB, 1.64 GiB."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if number >= 1024**power:
            scaled = number / 1024**power
            return f"{scaled:.3g} {unit}" if scaled < 999.5 else f"{scaled:,.0f} {unit}"
    return f"{number:.0f} B"


def sanitize(text: str) -> str:
    """Replace characters that a terminal would interpret with U+FFFD.

    Other invisible characters stay: joiners of Persian, Hindi and emoji, variation selectors,
    direction marks, wide spaces.
    """
    return _CONTROL.sub("\ufffd", text)


def shorten(text: str, width: int) -> str:
    """Shorten a text to a line of `width` characters, with an ellipsis; never inside a number."""
    line = " ".join(sanitize(text).split())
    if len(line) <= width:
        return line
    kept = line[: width - 1]
    return f"{kept.rstrip('0123456789.,') if line[width - 1].isdigit() else kept}…"


def show_whitespace(piece: str) -> str:
    """A token's text with visible whitespace: · for a space, ⏎ for a line break, → for a tab."""
    shown = piece.replace(" ", "·").replace("\n", "⏎").replace("\t", "→")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)


def shell_command(*words: str | Path) -> str:
    """An `llm-scratch` command line to copy, quoted: `llm-scratch generate 'my runs/x'`."""
    return f"llm-scratch {quote(*words)}"


def quote(*words: str | Path) -> str:
    """Quote command-line arguments for the shell of this system."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)
