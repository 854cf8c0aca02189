"""Tokens in the colour of their probability: what was sure is calm, what was a surprise is hot. Proof: tests/cli/test_shades.py."""

from __future__ import annotations

from math import exp

SHADES = ((0.8, 245), (0.5, 110), (0.2, 151), (0.05, 221), (0.01, 209), (0.0, 197))
"""(at least this probability, the colour's number among a terminal's 256): grey, blue, green, yellow, orange, red"""


def shaded(text: str, logprob: float | None) -> str:
    """A text in the colour of its log-probability; plain without one. Line breaks stay outside, so that no colour runs on."""
    if logprob is None or not text:
        return text
    colour = next(number for least, number in SHADES if exp(logprob) >= least)
    return "\n".join(f"\x1b[38;5;{colour}m{line}\x1b[0m" if line else "" for line in text.split("\n"))


def legend() -> str:
    """What the colours mean, in one line."""
    names = [f"\x1b[38;5;{number}m{'≥ ' if least else '< '}{least or SHADES[-2][0]:.0%}\x1b[0m" for least, number in SHADES]
    return "probability  " + "  ".join(names)


def spelled(text: str, logprob: float | None) -> str:
    """A text with its probability in words, for where there are no colours: `fox{83%}`."""
    return text if logprob is None else f"{text}{{{exp(logprob):.0%}}}"
