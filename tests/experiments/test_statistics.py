"""The statistics equal those of scipy and statsmodels.

Simulated experiments have the promised error rate and power.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.statistics import (
    ALPHA,
    INTERIM_ALPHA,
    detectable_effect,
    difference_p,
    equivalence_p,
    holm,
    interval,
    level_at,
    power,
    sd_range,
    seeds_needed,
)

stats = pytest.importorskip("scipy.stats", reason="needs scipy (extra `experiments`)")

N_SIMULATED = 10_000
MAX_FALSE = 0.056
CASES = [
    [0.010, 0.020, 0.015, 0.005, 0.012],
    [-0.003, 0.004, 0.001, -0.002, 0.0005, 0.0007],
    [1.5, 2.5],
    list(np.random.default_rng(1).normal(0.01, 0.02, 20)),
]


@pytest.mark.parametrize("case", CASES)
def test_interval_and_p_equal_scipy(case):
    d = np.array(case)
    expected = stats.ttest_1samp(d, 0.0)
    assert difference_p(d) == pytest.approx(expected.pvalue, rel=1e-9)
    for level in (0.05, 0.01):
        low, high = interval(d, level)
        bounds = expected.confidence_interval(1 - level)
        assert (low, high) == pytest.approx((bounds.low, bounds.high), rel=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("margin", [0.005, 0.02])
def test_equivalence_equals_statsmodels(case, margin):
    weightstats = pytest.importorskip(
        "statsmodels.stats.weightstats", reason="needs statsmodels (extra `dev`)"
    )
    d = np.array(case)
    expected, *_ = weightstats.ttost_paired(d, np.zeros_like(d), -margin, margin)
    assert equivalence_p(d, margin) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "p", [[0.01], [0.04, 0.01, 0.03], [0.5, 0.6, 0.001, 0.02], [0.02, 0.02, 0.02]]
)
def test_holm_equals_statsmodels(p):
    multitest = pytest.importorskip(
        "statsmodels.stats.multitest", reason="needs statsmodels (extra `dev`)"
    )
    assert holm(np.array(p)) == pytest.approx(
        multitest.multipletests(p, method="holm")[1], rel=1e-12
    )
    assert holm(np.array([p, p[::-1]]))[1] == pytest.approx(holm(np.array(p))[::-1])


@pytest.mark.parametrize(
    ("effect", "sd", "n", "level"),
    [(0.01, 0.01, 5, 0.05), (0.005, 0.01, 20, 0.045), (1.0, 3.0, 3, 0.01)],
)
def test_power_equals_statsmodels(effect, sd, n, level):
    module = pytest.importorskip(
        "statsmodels.stats.power", reason="needs statsmodels (extra `dev`)"
    )
    assert power(effect, sd, n, level) == pytest.approx(
        module.TTestPower().power(effect / sd, n, level / 2, alternative="larger"), rel=1e-9
    )


def test_seeds_needed_are_the_fewest_that_keep_the_promise():
    for effect, sd, arms in [(0.01, 0.01, 1), (0.005, 0.01, 1), (0.005, 0.02, 3), (0.1, 0.01, 1)]:
        n = seeds_needed(effect, sd, arms)
        assert power(effect, sd, n, level_at(n, n) / arms) >= 0.8
        assert n == 2 or power(effect, sd, n - 1, level_at(n - 1, n - 1) / arms) < 0.8
    assert seeds_needed(1e-9, 1.0) is None


def test_detectable_effect_has_the_promised_power():
    for n in (2, 3, 5, 20, 500):
        for arms in (1, 2, 7):
            effect = detectable_effect(0.02, n, arms)
            assert power(effect, 0.02, n, level_at(n, n) / arms) == pytest.approx(0.8, abs=1e-4)
    assert detectable_effect(0.0, 5) == 0.0


def test_interim_analyses_together_spend_alpha():
    for planned in (2, 3, 4, 5, 20):
        spent = [level_at(n, planned) for n in range(2, planned + 1)]
        assert sum(spent) == pytest.approx(ALPHA)
        assert spent[-1] >= ALPHA - INTERIM_ALPHA
    assert level_at(2, 5) == 0.0


def test_differences_without_noise_give_a_certain_answer():
    same = np.zeros(4)
    assert difference_p(same) == 1.0
    assert equivalence_p(same, 0.1) == 0.0
    assert interval(same, 0.05) == (0.0, 0.0)
    assert difference_p(same + 0.5) == 0.0
    assert equivalence_p(same + 0.5, 0.1) == 1.0
    assert power(0.0, 0.0, 5, 0.05) == 0.0


def test_sd_range_covers_the_true_deviation():
    d = np.random.default_rng(5).normal(0, 2.0, (N_SIMULATED, 3))
    low, high = sd_range(1.0, 3)
    sd = d.std(-1, ddof=1)
    assert np.mean((low * sd <= 2.0) & (high * sd >= 2.0)) == pytest.approx(0.8, abs=0.015)


def rejected_at_any_look(d: np.ndarray) -> np.ndarray:
    """Return whether simulated experiments report a difference at any interim analysis.

    d is [experiments, arms, seeds]; the result has one value per experiment and arm.
    """
    planned = d.shape[-1]
    rejected = np.zeros(d.shape[:2], dtype=bool)
    for n in range(2, planned + 1):
        rejected |= holm(difference_p(d[..., :n])) <= level_at(n, planned)
    return rejected


@pytest.mark.parametrize(("arms", "seeds"), [(1, 3), (1, 5), (1, 20), (3, 5), (4, 8)])
def test_experiments_without_a_difference_rarely_report_one(arms, seeds):
    rng = np.random.default_rng(seeds + 100 * arms)
    base = rng.normal(1.2, 0.01, (N_SIMULATED, 1, seeds))
    each = rng.normal(1.2, 0.01, (N_SIMULATED, arms, seeds))
    assert rejected_at_any_look(each - base).any(-1).mean() <= MAX_FALSE


@pytest.mark.parametrize(("effect", "seeds"), [(0.02, 5), (0.012, 8), (0.01, 20), (0.03, 3)])
def test_effects_are_found_as_often_as_promised(effect, seeds):
    sd = 0.0125
    promised = power(effect, sd, seeds, level_at(seeds, seeds))
    d = np.random.default_rng(7).normal(effect, sd, (N_SIMULATED, 1, seeds))
    assert rejected_at_any_look(d).mean() == pytest.approx(promised, abs=0.03)


@pytest.mark.parametrize("seeds", [3, 5, 20])
def test_intervals_cover_the_truth(seeds):
    d = np.random.default_rng(11).normal(0.004, 0.01, (N_SIMULATED, seeds))
    low, high = interval(d, level_at(seeds, seeds))
    assert 0.94 <= np.mean((low <= 0.004) & (high >= 0.004)) <= 0.96


def test_equivalence_is_rarely_reported_at_the_margin():
    d = np.random.default_rng(13).normal(0.005, 0.004, (N_SIMULATED, 8))
    assert np.mean(equivalence_p(d, 0.005) <= level_at(8, 8)) <= MAX_FALSE


def test_missing_scipy_is_an_error_with_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UserError, match="pip install scipy"):
        difference_p(np.array([1.0, 2.0]))
