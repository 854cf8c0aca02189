"""Charts draw every element at its value."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from llm_scratch.experiments.charts import (
    ArmCurve,
    SeedValues,
    curves_chart,
    differences_chart,
    seeds_chart,
)
from llm_scratch.experiments.marks import Scale, color_class, curve_class
from llm_scratch.experiments.verdict import Comparison, Estimate


def comparison(arm="b", differences=None, estimate=None) -> Comparison:
    differences = differences if differences is not None else {1: -0.02, 2: -0.03}
    return Comparison(
        arm, "a", "better", 2, 0, 0, differences, estimate, 0.005, 3, 1, False, "bits per byte"
    )


def circles(svg: str, kind: str) -> list[float]:
    """The x of the circles of a class."""
    found = [
        node
        for node in ElementTree.fromstring(svg).iter("circle")
        if kind in node.get("class").split()
    ]
    return [float(node.get("cx")) for node in found]


def test_scale_is_linear():
    scale = Scale(1.0, 3.0, 10, 110)
    assert (scale(1.0), scale(2.0), scale(3.0)) == (10, 60, 110)


def test_every_run_is_a_dot_and_the_runs_of_a_seed_are_joined():
    arms = [SeedValues("a", {1: 0.5, 2: 0.6, 3: 0.7}), SeedValues("b", {1: 0.4, 3: 0.65})]
    svg = seeds_chart(arms, "bits per byte", 880)
    assert len(circles(svg, "dot")) == 5
    assert svg.count('class="pair"') == 2
    assert sorted(circles(svg, "arm0")) == circles(svg, "arm0")
    assert "seed 3: 0.6500" in svg


def test_chart_draws_a_single_value_and_equal_values():
    for values in ({1: 0.5}, {1: 0.5, 2: 0.5}, {1: 0.0}):
        svg = seeds_chart([SeedValues("a", values), SeedValues("b", {})], "x", 340)
        assert len(circles(svg, "dot")) == len(values)
        assert "nan" not in svg


def test_difference_has_its_interval_and_zero_is_between_the_margins():
    svg = differences_chart(
        [comparison(estimate=Estimate(0.05, -0.04, -0.01, 0.01, 1.0)), comparison("c", {})], 880
    )
    (mean,) = circles(svg, "dot")
    rings = circles(svg, "ring")
    assert rings[1] < mean < rings[0]
    line = re.search(r'<line x1="([\d.]+)" x2="([\d.]+)"[^>]*class="interval arm1"', svg)
    assert float(line[1]) < rings[1] < rings[0] < float(line[2])
    rect = re.search(r'<rect x="([\d.]+)"[^>]*width="([\d.]+)"[^>]*class="margin"', svg)
    zero = float(re.search(r'<line x1="([\d.]+)"[^>]*class="axis"', svg)[1])
    assert zero == pytest.approx(float(rect[1]) + float(rect[2]) / 2, abs=0.2)


def test_curves_are_not_squeezed_by_the_loss_before_training():
    tokens = np.arange(10) * 1000.0
    mean = np.array([8.0, *np.linspace(2.0, 1.0, 9)])
    svg = curves_chart([ArmCurve("a", tokens, mean, mean - 0.01, mean + 0.01)], 880, 360)
    ElementTree.fromstring(svg)
    points = re.search(r'<polyline points="([^"]+)"', svg)[1].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights[0] < 0 < heights[1] < heights[-1] <= 316


def test_long_names_are_shortened_to_the_chart():
    svg = seeds_chart([SeedValues("x" * 200, {1: 0.5})], "unit", 340)
    label = re.search(r'class="label">(x+…)', svg)[1]
    assert len(label) < 45


def test_colors_repeat_after_the_last_but_the_reference_has_its_own():
    assert [color_class(number) for number in (0, 1, 6, 7)] == ["arm0", "arm1", "arm6", "arm1"]
    assert [curve_class(number) for number in (1, 7)] == ["curve arm1", "curve dashed arm1"]
