"""The page describes the trend of the best rates in sentences and draws them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.results import RunResult
from llm_scratch.experiments.transfer import analyze
from llm_scratch.experiments.transfer_charts import rate_panels, trend_chart
from llm_scratch.experiments.transfer_report import sentences, write_transfer_report
from llm_scratch.experiments.transfer_runner import TransferExperiment, TransferOutcome

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

WIDTHS, RATES = (32, 64, 128), tuple(0.001 * 2**i for i in range(8))


def made_up(**exponents: float) -> TransferOutcome:
    """Arms whose best rate is 0.016 (width / 64)^exponent, with a little noise and three seeds."""
    rng = np.random.default_rng(0)
    losses = {}
    for name, exponent in exponents.items():
        best = 0.016 * (np.array(WIDTHS) / 64) ** exponent
        distance = np.log2(RATES)[None] - np.log2(best)[:, None]
        noise = 0.002 * rng.normal(size=(3, 8, 3))
        losses[name] = (1 + 0.05 * distance**2)[..., None] + noise
    arms = tuple(Arm(name) for name in exponents)
    experiment = TransferExperiment("rates", "quickstart", WIDTHS, RATES, arms, (1, 2, 3))
    x = np.array(WIDTHS, dtype=float)
    transfers = {name: analyze(x, np.array(RATES), each) for name, each in losses.items()}
    run = RunResult("a", 1, "finished", 1.0, "", 4, 128, 1e6, 0.5)
    return TransferOutcome(experiment, (run,), losses, transfers)


def test_sentences_describe_the_best_rates():
    stays, falls, rises, edge, narrow = sentences(
        made_up(muP=0.0, standard=-1.0, odd=1.0, steep=-3.9)
    )[:5]
    assert re.fullmatch(
        r"muP: the best rate stays the same \(×\d\.\d\d for each doubling of the width,"
        r" 95 % interval \d\.\d\d to \d\.\d\d\)\.",
        stays,
    )
    assert falls.startswith("standard: the best rate falls by ×0.5")
    assert "odd: the best rate rises by ×" in rises
    assert edge.startswith("steep: no trend")
    assert narrow == (
        "steep at width 32: the best rate is 0.128 or more, the highest that was tried;"
        " try higher rates."
    )


def test_sentence_names_an_edge_beside_a_diverged_rate():
    outcome = made_up(steep=-3.0)
    outcome.losses["steep"][0, -1] = np.inf
    transfer = analyze(np.array(WIDTHS, dtype=float), np.array(RATES), outcome.losses["steep"])
    outcome.transfers["steep"] = transfer
    assert (
        "steep at width 32: the best rate is about 0.064, and the next one diverges;"
        " try rates between." in sentences(outcome)
    )


def circles(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter("circle"))


def test_chart_has_a_curve_and_a_best_rate_for_each_width():
    outcome = made_up(muP=0.0, standard=-1.0)
    for width in (880, 340):
        svg = rate_panels(outcome, width)
        assert len(re.findall("<polyline", svg)) == 6
        assert len(circles(svg)) == 6 * (8 + 1)
    best = [
        float(circle.get("cx"))
        for circle in circles(rate_panels(made_up(standard=-1.0), 880))
        if circle.find("title").text.startswith("best rate")
    ]
    assert best[0] > best[1] > best[2]
    assert len(circles(trend_chart(outcome, 880))) == 6


def test_diverged_runs_are_drawn_as_gaps_and_a_page_without_a_best_rate_works(tmp_path):
    outcome = made_up(standard=-1.0)
    outcome.losses["standard"][:, -1, 0] = np.inf
    assert len(circles(rate_panels(outcome, 880))) == 3 * (7 + 1)
    outcome.losses["standard"][:] = np.inf
    outcome.transfers["standard"] = analyze(
        np.array(WIDTHS, dtype=float), np.array(RATES), outcome.losses["standard"]
    )
    page, markdown = (path.read_text() for path in write_transfer_report(outcome, tmp_path))
    assert "<svg" not in page
    assert "edge (too few)" in markdown
    assert "| standard | 32 | diverged |" in markdown


def test_transfer_page_is_self_contained_and_begins_with_the_verdict(tmp_path):
    outcome = made_up(muP=0.0, standard=-1.0)
    page, markdown = (path.read_text() for path in write_transfer_report(outcome, tmp_path))
    assert not re.search(r"https?://|<script|<link|src=|url\((?!#)", page)
    for text in (page, markdown):
        for line in sentences(outcome):
            assert line in text
    assert page.index("the best rate stays") < page.index("<svg")
    assert "nan" not in page.replace("nanochat", "")
