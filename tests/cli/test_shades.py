"""Colours of probabilities: one for each range, closed at line ends."""

from __future__ import annotations

from math import log

import pytest

from llm_scratch.cli.shades import SHADES, legend, shaded, spelled


@pytest.mark.parametrize(("p", "number"), [(1.0, 245), (0.8, 245), (0.79, 110), (0.3, 151), (0.05, 221), (0.02, 209), (1e-9, 197)])
def test_a_probability_has_its_colour(p, number):
    assert shaded("fox", log(p) + 1e-12) == f"\x1b[38;5;{number}m" + "fox\x1b[0m"


def test_no_colour_runs_over_a_line_break():
    assert shaded("a\n\nb", 0.0) == "\x1b[38;5;245ma\x1b[0m\n\n\x1b[38;5;245mb\x1b[0m"
    assert shaded("\n", 0.0) == "\n"


def test_a_text_without_a_probability_is_plain():
    assert shaded("a", None) == spelled("a", None) == "a"
    assert shaded("", -1.0) == ""
    assert spelled("a", log(0.25)) == "a{25%}"


def test_the_legend_names_every_colour():
    assert all(f"38;5;{number}m" in legend() for _, number in SHADES)
    assert "< 1%" in legend()
