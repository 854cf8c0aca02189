"""Wrap text between words as it is streamed to a terminal.

Tests: tests/cli/test_word_wrap.py.
"""

from __future__ import annotations

from collections.abc import Callable
from unicodedata import east_asian_width

from rich.cells import cell_len

MAX_HELD_COLUMNS = 30
"""A word is held back only where fewer columns than this are left on the line."""
ZERO_WIDTH_JOINER = "\u200d"
EMOJI_MODIFIERS = range(0x1F3FB, 0x1F400)
NO_BREAK_SPACES = "\u00a0\u2007\u202f"
NO_BREAK_BEFORE = "、。，．！？：；）」』】〕〉》”’"
NO_BREAK_AFTER = "（「『【〔〈《“‘"
RESET = "\x1b[0m"
TAB_COLUMNS = 8
PLACEHOLDER = "\ue000"
"""A private character in place of a space at which a line must not be broken."""


class WordWrapper:
    """Write streamed text, with a line break before each word that does not fit on the line.

    A word is written as it grows; only near the edge is it held back until its end is known. East
    Asian text may be broken between any two wide characters, but not inside a sequence of joined
    characters. Words longer than a line are left to the terminal. Call `end` after the last text.

    Args:
        write: takes each piece of output.
        columns: gives the width of the terminal now,
            or None where lines must not be wrapped: a file or a pipe.
    """

    def __init__(self, write: Callable[[str], object], columns: Callable[[], int | None]) -> None:
        self._write = write
        self._columns = columns
        self._column = 0
        self._held: list[tuple[str, str]] = []  # (style, character)
        self._held_width = 0
        self._word_begun = False  # the beginning of the current word is written already
        self._previous = ""  # the last character that takes a column, or a joiner
        self._output: list[str] = []
        self._style = ""

    def add(self, text: str, style: str = "") -> None:
        """Write text, in an ANSI style such as "\\x1b[1m"."""
        columns = self._columns()
        if columns is None:
            lines = text.split("\n")
            self._write(
                "\n".join(f"{style}{line}{RESET}" if style and line else line for line in lines)
            )
            return
        for char in text:
            self._add_character(char, style, max(1, columns))
        self._flush()

    def end(self) -> None:
        """Write the buffered text."""
        self._end_word()
        self._flush()

    def _add_character(self, char: str, style: str, columns: int) -> None:
        if char == "\n":
            self._end_word()
            self._break_line()
        elif char.isspace() and char not in NO_BREAK_SPACES:
            self._end_word()
            self._add_space(char, style, columns)
        else:
            if breaks_between(self._previous, char):
                self._end_word()
            self._held.append((style, char))
            self._held_width += cell_len(char)
            end = self._column + self._held_width
            if not self._word_begun and self._column and end > columns:
                self._break_line()
            fits = self._column + max(self._held_width, MAX_HELD_COLUMNS) <= columns
            if self._word_begun or not self._column or fits:
                self._write_held(columns)
        if cell_len(char) or char == ZERO_WIDTH_JOINER:
            self._previous = char

    def _add_space(self, char: str, style: str, columns: int) -> None:
        """A space, left out at the end of a full line."""
        width = TAB_COLUMNS - self._column % TAB_COLUMNS if char == "\t" else cell_len(char)
        if self._column + width <= columns:
            self._print(char, style)
        self._column = min(columns, self._column + width)

    def _write_held(self, columns: int) -> None:
        for style, char in self._held:
            self._print(char, style)
            width = cell_len(char)
            # beyond the edge the terminal itself continues on the next line
            self._column = width if self._column + width > columns else self._column + width
        self._held, self._held_width, self._word_begun = [], 0, True

    def _end_word(self) -> None:
        if self._held:
            self._write_held(max(1, self._columns() or 1))
        self._word_begun = False

    def _break_line(self) -> None:
        self._print("\n", "")
        self._column = 0

    def _print(self, text: str, style: str) -> None:
        if style != self._style:
            self._output.append(RESET if self._style else "")
            self._output.append(style)
            self._style = style
        self._output.append(text)

    def _flush(self) -> None:
        if self._style:
            self._output.append(RESET)
            self._style = ""
        if self._output:
            self._write("".join(self._output))
            self._output = []


def breaks_between(previous: str, char: str) -> bool:
    """Whether a line may break between two characters: beside wide ones, not inside joined ones."""
    if (
        not previous
        or previous == ZERO_WIDTH_JOINER
        or not cell_len(char)
        or ord(char) in EMOJI_MODIFIERS
    ):
        return False
    if char in NO_BREAK_BEFORE or previous in NO_BREAK_AFTER:
        return False
    return _is_wide(previous) or _is_wide(char)


def _is_wide(char: str) -> bool:
    return east_asian_width(char) in "WF"


def wrap(text: str, columns: int) -> str:
    """Wrap a text between words; text between backquotes stays on one line if it fits.

    Example: `wrap("see the help", 8)` is "see the\\nhelp".
    """
    parts = text.split("`")
    for number, part in enumerate(parts):
        if number % 2 and cell_len(part) + 3 <= columns:
            parts[number] = part.replace(" ", PLACEHOLDER)
    pieces: list[str] = []
    wrapper = WordWrapper(pieces.append, lambda: columns)
    wrapper.add("`".join(parts))
    wrapper.end()
    lines = "".join(pieces).split("\n")
    return "\n".join(line.rstrip(" ") for line in lines).replace(PLACEHOLDER, " ")
