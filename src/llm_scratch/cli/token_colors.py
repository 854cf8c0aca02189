"""Token probabilities as background colors: likely tokens plain, surprising ones red.

Each color has black text, so it is readable on a black, a white and a gray terminal.
Tests: tests/cli/test_token_colors.py.
"""

from __future__ import annotations

from math import exp

PROBABILITY_COLORS: tuple[tuple[float, int | None], ...] = (
    (0.8, None),
    (0.5, 153),
    (0.2, 157),
    (0.05, 227),
    (0.01, 215),
    (0.0, 203),
)
"""(at least this probability, background among the 256 colors), from none to red"""
LETTERS = 16
"""Black, the text color on these backgrounds."""


def style_of(logprob: float | None) -> str:
    """The ANSI style of a token's log-probability [nats]; "" if it is likely or unknown."""
    if logprob is None:
        return ""
    return _style(next(color for least, color in PROBABILITY_COLORS if exp(logprob) >= least))


def _style(background: int | None) -> str:
    return "" if background is None else f"\x1b[38;5;{LETTERS};48;5;{background}m"


def legend() -> list[tuple[str, str]]:
    """What the colors mean, as (text, ANSI style) of each part of a line."""
    lowest = PROBABILITY_COLORS[-2][0]
    ranges = [
        (f"≥\u00a0{least:.0%}" if least else f"<\u00a0{lowest:.0%}", _style(color))
        for least, color in PROBABILITY_COLORS
    ]
    return [("probability:", "")] + [
        part for text, style in ranges for part in ((" ", ""), (text, style))
    ]


def annotate(text: str, logprob: float | None) -> str:
    """A text with its probability as a number, for where there are no colors: `fox{83%}`."""
    return text if logprob is None else f"{text}{{{exp(logprob):.0%}}}"
