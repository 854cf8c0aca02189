"""The page of a scaling law draws every run, its error, and what can be graded."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from llm_scratch.experiments.results import RunResult
from llm_scratch.experiments.scaling import ScalingLaw, fit_scaling_law, parabola_minimum
from llm_scratch.experiments.scaling_charts import estimates_chart, residuals_chart, sizes_chart
from llm_scratch.experiments.scaling_report import law_lines, write_scaling_report
from llm_scratch.experiments.scaling_runner import Prediction, ScalingOutcome

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

LAW = ScalingLaw(0.3, 40.0, 60.0, 0.5, 0.6)
SIZES, BUDGETS = (1e4, 3e4, 1e5, 3e5), (1e11, 4e11, 1.6e12)


@pytest.fixture(scope="module")
def outcome() -> ScalingOutcome:
    """A grid whose runs follow `LAW` with a little noise, and a predicted run."""
    rng = np.random.default_rng(0)
    runs = []
    for budget in BUDGETS:
        for size in SIZES:
            tokens = int(budget / 6 / size)
            loss = float(LAW.loss(size, tokens)) + 0.002 * rng.normal()
            name = f"{size:g} {budget:g}"
            runs.append(
                (int(size), RunResult(name, 1, "finished", loss, "", 9, tokens, budget, 1.0))
            )
    n, tokens, losses = (
        np.array(column, dtype=float)
        for column in zip(*((n, r.tokens, r.value) for n, r in runs), strict=True)
    )
    fit = fit_scaling_law(n, tokens, losses, bootstraps=20)
    best = {}
    for i, budget in enumerate(BUDGETS):
        each = slice(4 * i, 4 * i + 4)
        best[budget] = (fit.law.best_size(budget)[0], parabola_minimum(n[each], losses[each]))
    prediction = Prediction(1_000_000, 4_000_000, 0.35, 0.34, 0.36, 0.352)
    return ScalingOutcome(tuple(runs), fit, best, prediction, 0.2906)


def count(svg: str, class_: str) -> int:
    """The number of elements of a class."""
    return sum(
        class_ in node.get("class", "").split() for node in ElementTree.fromstring(svg).iter()
    )


def test_every_run_is_drawn_with_its_law_and_parabola(outcome):
    for width in (880, 340):
        svg = sizes_chart(outcome, width)
        assert (count(svg, "curve"), count(svg, "dashed")) == (6, 3)
        assert count(svg, "dot") == 12 + 1  # the one best size by the law that is in the grid
        assert count(svg, "ring") == 3


def test_scaling_report_draws_errors_around_zero(outcome):
    svg = residuals_chart(outcome, 880)
    tree = ElementTree.fromstring(svg)
    (zero,) = [float(n.get("y1")) for n in tree.iter("line") if n.get("class") == "axis"]
    errors = [r.value - float(outcome.fit.law.loss(n, r.tokens)) for n, r in outcome.runs]
    heights = [float(node.get("cy")) for node in tree.iter("circle")]
    assert sum(height < zero - 0.1 for height in heights) == sum(e > 1e-5 for e in errors)


def test_truths_are_rings_where_they_are_known(outcome):
    svg = estimates_chart(outcome, 880)
    assert (count(svg, "dot"), count(svg, "ring")) == (2, 2)
    unknown = ScalingOutcome(outcome.runs, outcome.fit, outcome.best_sizes, None, None)
    svg = estimates_chart(unknown, 880)
    assert (count(svg, "dot"), count(svg, "ring")) == (1, 0)


def test_scaling_report_begins_with_the_law(outcome, tmp_path):
    page, markdown = (
        path.read_text(encoding="utf-8")
        for path in write_scaling_report(outcome, "sizes", tmp_path)
    )
    assert not re.search(r"https?://|<script|<link|src=|url\((?!#)", page)
    for line in law_lines(outcome):
        assert line in page
        assert line in markdown
    assert page.index(law_lines(outcome)[0]) < page.index("<svg")
    assert "nan" not in page
    assert len(re.findall(r"^\| .* \| [+−]0\.\d{4} \|$", markdown, re.M)) == 12


def test_law_without_a_best_size_has_a_page(outcome, tmp_path):
    flat = {budget: (float("nan"), None) for budget in BUDGETS}
    without = ScalingOutcome(outcome.runs, outcome.fit, flat, None, None)
    assert count(sizes_chart(without, 340), "dot") == 12
    page, markdown = write_scaling_report(without, "sizes", tmp_path)
    assert "| – | no minimum |" in markdown.read_text()
    assert "nan" not in page.read_text().split("</header>")[1]
