"""The page's colors for every kind of color vision, in its light and its dark theme."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from color_vision import VISION, contrast, difference, lab

import llm_scratch.serving

STATIC = Path(llm_scratch.serving.__file__).parent / "static"
THEMES = ("light", "dark")
PAIR = re.compile(r"--(\w+): light-dark\(#(\w{6}), #(\w{6})\)")
STYLE = (STATIC / "style.css").read_text(encoding="utf-8")
SCRIPT = (STATIC / "colors.js").read_text(encoding="utf-8")
MIN_DIFFERENCE = 15  # CIEDE2000 of neighbors that mean different things
MIN_TEXT, MIN_MARK = 4.5, 3.0  # WCAG 2.2 AA, 1.4.3 and 1.4.11


def theme_colors(theme):
    """The colors of a theme by name, from the style sheet."""
    rows = {name: pair for name, *pair in PAIR.findall(STYLE)}
    return {name: tuple(bytes.fromhex(pair[THEMES.index(theme)])) for name, pair in rows.items()}


def scale(name):
    """The stops of a color scale of colors.js."""
    source = re.search(rf"{name}(?: =|:) \[(\[.*\])\]", SCRIPT)[1]
    return [tuple(map(int, re.findall(r"\d+", stop))) for stop in source.split("],")]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (50, 3.1736, 0.5854), 1.0),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_color_difference_equals_the_published_values(one, other, expected):
    assert difference(one, other) == pytest.approx(expected, abs=1e-4)


def test_simulated_color_blindness_confuses_the_known_colors():
    red, green, blue, violet = (190, 80, 60), (110, 125, 50), (0, 110, 130), (0, 115, 60)
    assert difference(lab(red), lab(green)) > 35
    assert difference(lab(red, "deuteranopia"), lab(green, "deuteranopia")) < 15
    assert difference(lab(blue, "tritanopia"), lab(violet, "tritanopia")) < difference(
        lab(blue), lab(violet)
    )


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("theme", THEMES)
def test_neighboring_colors_are_distinguishable(theme, vision):
    colors = theme_colors(theme)
    against, nothing, favor = scale(theme)
    neighbors = {
        "selected and other marks": (colors["accent"], colors["muted"]),
        "selected and other text": (colors["accent"], colors["ink"]),
        "against and for": (against, favor),
        "against and nothing": (against, nothing),
        "for and nothing": (favor, nothing),
        "nothing and selected": (nothing, colors["accent"]),
    }
    found = {name: difference(*(lab(c, vision) for c in pair)) for name, pair in neighbors.items()}
    assert not {name: value for name, value in found.items() if value < MIN_DIFFERENCE}


@pytest.mark.parametrize("vision", VISION)
def test_magnitudes_grow_lighter_in_even_steps(vision):
    lightness = [lab(color, vision)[0] for color in scale("CIVIDIS")]
    steps = [after - before for before, after in pairwise(lightness)]
    assert len(steps) == 9
    assert min(steps) > 4
    assert max(steps) < 14


@pytest.mark.parametrize("theme", THEMES)
def test_text_and_marks_contrast_with_the_background(theme):
    colors = theme_colors(theme)
    for ground in ("ground", "raised"):
        for text in ("ink", "muted", "accent"):
            assert contrast(colors[text], colors[ground]) >= MIN_TEXT, (text, ground)
    against, _, favor = scale(theme)
    for mark in (against, favor):
        assert contrast(mark, colors["ground"]) >= MIN_MARK


def test_every_color_of_the_style_sheet_is_used():
    used = "".join(path.read_text("utf-8") for path in STATIC.rglob("*") if path.is_file())
    unused = [
        name
        for name, *_ in PAIR.findall(STYLE)
        if f"var(--{name})" not in used and f'ink("{name}")' not in used
    ]
    assert not unused


def test_every_variable_that_is_used_is_defined():
    source = "".join(path.read_text("utf-8") for path in STATIC.rglob("*") if path.is_file())
    used = {*re.findall(r"var\(--([\w-]+)", source), *re.findall(r'ink\("(\w+)"\)', source)}
    by_views = set(re.findall(r'"--([\w-]+)"', source))
    assert len(used) > 10
    assert used <= set(re.findall(r"^\s+--([\w-]+):", STYLE, re.MULTILINE)) | by_views
    assert re.findall(r"var\(--\$.*?\)", source) == ["var(--${name})"]  # of `ink`
