"""Known best rates are found, and the intervals have their nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest

from llm_scratch.experiments.transfer import Transfer, analyze

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

WIDTHS = np.array([32.0, 64.0, 128.0, 256.0])
RATES = 2.0 ** np.arange(-9, -2)
FALLING = 0.02 * (64 / WIDTHS)
"""Best rates that halve with each doubling of the width."""


def parabolas(best: np.ndarray, n_seeds: int) -> np.ndarray:
    """Losses without noise, [W, R, S]: a parabola over log rate for each width."""
    distance = np.log2(RATES)[None] - np.log2(best)[:, None]
    return np.repeat((1 + 0.05 * distance**2)[..., None], n_seeds, axis=2)


def test_minimum_of_a_parabola_and_its_trend_are_exact():
    found = analyze(WIDTHS, RATES, parabolas(FALLING, 3))
    assert [best.rate for best in found.best] == pytest.approx(list(FALLING))
    assert (found.factor, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.verdict == "falls"


def test_offset_of_a_seed_cancels():
    offsets = np.array([0.0, 5.0, -3.0])
    found = analyze(WIDTHS, RATES, parabolas(FALLING, 3) + offsets)
    assert (found.factor, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize("n_seeds", [2, 3, 8])
def test_intervals_cover_the_truth_19_times_in_20(n_seeds):
    rng = np.random.default_rng(n_seeds)
    truth, n = parabolas(FALLING, n_seeds), 300
    noise = 0.004 * rng.normal(size=(n, *truth.shape)) + 0.05 * rng.normal(size=(n, 1, 1, n_seeds))
    found = [
        analyze(WIDTHS, RATES, truth + each, bootstraps=200, seed=i) for i, each in enumerate(noise)
    ]
    trends = np.mean([each.low <= 0.5 <= each.high for each in found])
    rates = np.mean(
        [
            best.low <= rate <= best.high
            for each in found
            for best, rate in zip(each.best, FALLING, strict=True)
        ]
    )
    assert 0.91 <= trends <= 0.985
    assert 0.92 <= rates <= 0.98


@pytest.mark.parametrize(("position", "edge"), [(0, "lowest"), (-1, "highest")])
def test_best_rate_at_the_edge_is_not_given(position, edge):
    best = FALLING.copy()
    best[0] = RATES[position]
    found = analyze(WIDTHS, RATES, parabolas(best, 3))
    assert (found.best[0].rate, found.best[0].low, found.best[0].edge) == (None, None, edge)
    assert found.factor == pytest.approx(0.5)  # of the three other widths


def test_rates_with_a_diverged_run_do_not_count():
    losses = parabolas(FALLING, 3)
    losses[:, -1, 1] = np.inf
    assert analyze(WIDTHS, RATES, losses).factor == pytest.approx(0.5)
    losses[0, 5:, 0] = np.inf  # the best rate of the first width is the fifth
    assert analyze(WIDTHS, RATES, losses).best[0].edge == "highest"
    losses[1, 2:, 0] = np.inf
    assert analyze(WIDTHS, RATES, losses).best[1].edge == "too few"
    losses[2:] = np.inf
    assert analyze(WIDTHS, RATES, losses).factor is None


def test_transfer_of_one_seed_has_no_interval():
    found = analyze(WIDTHS, RATES, parabolas(FALLING, 1))
    assert found.factor == pytest.approx(0.5)
    assert (found.low, found.best[0].low, found.verdict) == (None, None, "not shown")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.8, 1.2, "stays"),
        (0.5, 0.7, "falls"),
        (1.1, 2.0, "rises"),
        (0.5, 1.2, "not shown"),
        (0.9, 1.6, "not shown"),
    ],
)
def test_transfer_verdict_follows_the_interval(low, high, verdict):
    assert Transfer((), 1.0, low, high).verdict == verdict
