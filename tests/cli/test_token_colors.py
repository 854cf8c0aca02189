"""Colors of probabilities: one for each range, readable on every terminal."""

from __future__ import annotations

import re
from math import log
from pathlib import Path

import pytest
from rich.color import EIGHT_BIT_PALETTE
from rich.style import Style

from llm_scratch import cli
from llm_scratch.cli.styles import GOOD, NEIGHBORS, PROBLEM, WARNING
from llm_scratch.cli.token_colors import LETTERS, PROBABILITY_COLORS, annotate, legend, style_of

MIN_CONTRAST = 4.5
"""Contrast of text that WCAG 2.2 requires at level AA, criterion 1.4.3."""


def luminance(number):
    """Relative luminance of one of the 256 colors, as WCAG 2.2 defines it."""
    parts = [value / 255 for value in EIGHT_BIT_PALETTE[number]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """Contrast ratio of two of the 256 colors, from 1 to 21."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_ratio_of_black_and_white_is_21():
    assert contrast(16, 231) == pytest.approx(21)
    assert contrast(231, 229) < 1.1, "pale yellow on white"


@pytest.mark.parametrize(
    "background", [color for _, color in PROBABILITY_COLORS if color is not None]
)
def test_text_color_is_readable_on_each_background(background):
    assert contrast(LETTERS, background) >= MIN_CONTRAST


@pytest.mark.parametrize("p", [1.0, 0.8, 0.79, 0.3, 0.05, 0.02, 1e-9])
def test_color_does_not_depend_on_the_terminals_background(p):
    style = style_of(log(p) + 1e-12)
    assert style == "" or re.fullmatch(r"\x1b\[38;5;\d+;48;5;\d+m", style)


def test_each_probability_range_has_its_own_color():
    styles = [style_of(log(p) + 1e-12) for p in (0.8, 0.79, 0.3, 0.05, 0.02, 1e-9)]
    assert styles == [
        "",
        *(f"\x1b[38;5;{LETTERS};48;5;{color}m" for _, color in PROBABILITY_COLORS[1:]),
    ]
    assert len(set(styles)) == 6
    assert style_of(0.0) == ""


def test_token_without_a_probability_has_no_color():
    assert style_of(None) == ""
    assert annotate("a", None) == "a"
    assert annotate("a", log(0.25)) == "a{25%}"


@pytest.mark.parametrize("style", [GOOD, WARNING, PROBLEM, *NEIGHBORS])
def test_each_style_is_readable_on_its_own_background(style):
    parsed = Style.parse(style)
    assert contrast(parsed.color.number, parsed.bgcolor.number) >= MIN_CONTRAST


def test_commands_do_not_use_the_terminals_colors_for_text():
    """Their contrast is unknown: yellow on white and dim on gray are unreadable."""
    names = "dim|black|red|green|yellow|blue|magenta|cyan|white"
    color = re.compile(rf"""["'](?:bold )?(?:bright_)?(?:{names})["']""")
    for path in Path(cli.__file__).parent.glob("*.py"):
        found = color.findall(path.read_text("utf-8"))
        assert not found, f"{path.name}: {found}; cli/styles.py has readable ones"


def test_legend_names_every_color():
    parts = legend()
    assert [text.replace("\u00a0", " ") for text, _ in parts[2::2]] == [
        "≥ 80%",
        "≥ 50%",
        "≥ 20%",
        "≥ 5%",
        "≥ 1%",
        "< 1%",
    ]
    assert [style for _, style in parts[2::2]] == [
        style_of(log(p)) for p in (0.9, 0.6, 0.3, 0.06, 0.02, 0.001)
    ]
