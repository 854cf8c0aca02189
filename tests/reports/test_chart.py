"""The loss chart: points at their values, the floor, round ticks."""

from __future__ import annotations

import re

import numpy as np
import pytest

from llm_scratch.reports.chart import MAX_POINTS, LossLines, legend, loss_chart, thin_out, ticks

EMPTY = np.zeros((2, 0))


def lines(
    val=((0, 100), (4.0, 1.0)),
    train=((0, 100), (4.0, 0.9)),
    batch=((10, 90), (3.0, 1.2)),
    floor=0.5,
):
    return LossLines(np.array(batch), np.array(train), np.array(val), floor)


def points(svg, kind):
    """The coordinates of a polyline."""
    found = re.search(rf'<polyline points="([^"]*)" class="{kind}">', svg)
    assert found is not None
    return [tuple(float(number) for number in pair.split(",")) for pair in found[1].split()]


def test_chart_points_are_at_their_values():
    svg = loss_chart(lines(), 880, 380)
    val, train = points(svg, "val"), points(svg, "train")
    (x0, high), (x1, low) = val
    assert x0 < x1
    assert high < low, "a lower loss is drawn lower, where y is larger"
    assert train[0] == val[0]
    floor_y = float(
        re.search(r'<line x1="40" x2="868" y1="([\d.]+)" y2="[\d.]+" class="floor">', svg)[1]
    )
    scale = (low - high) / (4.0 - 1.0)
    assert train[1][1] == pytest.approx(low + 0.1 * scale, abs=0.2)
    assert floor_y == pytest.approx(low + 0.5 * scale, abs=0.2)
    cx, cy = map(float, re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg).groups())
    assert (cx, cy) == pytest.approx((x1, low), abs=0.1), "the best evaluation is marked"


def test_chart_range_ignores_an_outlier():
    wild = lines(batch=((10, 50, 90), (3.0, 1e6, 1.2)))
    assert wild.limits() == (100, 0.5, pytest.approx(4.4))


@pytest.mark.parametrize(("width", "height"), [(880, 380), (340, 300)])
def test_chart_elements_are_inside_its_area(width, height):
    svg = loss_chart(lines(), width, height)
    numbers = {
        side: [float(n) for n in re.findall(rf' (?:c?{side}|{side}[12])="(-?[\d.]+)"', svg)]
        for side in "xy"
    }
    assert min(numbers["x"]) >= 0
    assert max(numbers["x"]) <= width
    assert min(numbers["y"]) >= 0
    assert max(numbers["y"]) <= height


def test_chart_of_one_evaluation_is_drawn():
    svg = loss_chart(lines(val=((0,), (4.0,)), train=EMPTY, batch=EMPTY, floor=None), 340, 300)
    assert "<circle" in svg
    assert "nan" not in svg


def test_chart_legend_names_exactly_the_drawn_lines():
    labels = legend(lines())
    for words in (
        "validation, best 1.000 at step 100",
        "training, 0.900 at the end",
        "single batches",
        "entropy of the text: 0.500",
    ):
        assert words in labels
    assert "floor" not in legend(lines(floor=None))
    assert "single batches" not in legend(lines(batch=EMPTY))


@pytest.mark.parametrize(
    ("low", "high", "n", "want"),
    [
        (0, 100, 5, [0, 20, 40, 60, 80, 100]),
        (0.94, 7.2, 7, [1, 2, 3, 4, 5, 6, 7]),
        (1.21, 1.29, 4, [1.22, 1.24, 1.26, 1.28]),
        (3, 3, 4, [3]),
    ],
)
def test_ticks_are_round_numbers(low, high, n, want):
    assert ticks(low, high, n) == pytest.approx(want)


def test_chart_thins_a_long_line_and_keeps_shape_and_end():
    x = np.arange(100_000.0)
    few = thin_out(np.stack([x, x / 10]))
    assert few.shape == (2, MAX_POINTS)
    assert few[:, -1].tolist() == [99_999, 9_999.9]
    np.testing.assert_allclose(few[1, :-1], few[0, :-1] / 10)
    short = np.ones((2, 3))
    assert thin_out(short) is short
