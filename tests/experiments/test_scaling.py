"""The scaling-law fit finds the constants that made the losses, and predicts a larger run."""

from __future__ import annotations

import numpy as np
import pytest

from llm_scratch.errors import UserError
from llm_scratch.experiments.scaling import ScalingLaw, fit_scaling_law, parabola_minimum

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

LAWS = [
    ScalingLaw(1.69, 406.4, 410.7, 0.34, 0.28),  # Hoffmann et al. 2022, table A3
    ScalingLaw(0.2906, 30.0, 900.0, 0.45, 0.6),  # a floor like that of the stories
    ScalingLaw(0.5, 3.0, 50.0, 0.2, 0.5),
]


def grid(law: ScalingLaw, noise: float = 0.0, seed: int = 1):
    """Runs of 6 sizes and 5 lengths."""
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e4, 3e6, 6), np.geomspace(2e5, 2e7, 5)))
    return N, D, law.loss(N, D) + np.random.default_rng(seed).normal(0, noise, N.size)


@pytest.mark.parametrize("law", LAWS)
def test_scaling_law_constants_are_found_exactly_without_noise(law):
    fit = fit_scaling_law(*grid(law), bootstraps=2)
    for constant in ("E", "A", "B", "a", "b"):
        assert getattr(fit.law, constant) == pytest.approx(getattr(law, constant), rel=1e-3)
    assert fit.residual < 1e-6
    assert fit.describes


@pytest.mark.parametrize("law", LAWS)
def test_larger_run_is_predicted(law):
    """Ten times the parameters and the tokens of the largest run."""
    fit = fit_scaling_law(*grid(law, noise=0.003), bootstraps=60)
    predicted, low, high = fit.prediction(3e7, 2e8)
    truth = law.loss(3e7, 2e8)
    assert low <= truth <= high
    assert abs(predicted - truth) < 0.25 * (law.loss(3e6, 2e7) - law.E)


def test_bootstrap_intervals_cover_the_constants_at_their_nominal_rate():
    law = LAWS[1]
    covered = []
    for seed in range(40):
        fit = fit_scaling_law(*grid(law, noise=0.004, seed=seed), bootstraps=60, seed=seed)
        covered += [
            low <= getattr(law, c) <= high
            for c in ("E", "a", "b")
            for low, high in [fit.interval(c)]
        ]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_best_size_has_the_lowest_loss_of_its_budget():
    for law in LAWS:
        N, D = law.best_size(1e15)
        assert np.isclose(N * D, 1e15 / 6)
        assert all(law.loss(N * factor, D / factor) > law.loss(N, D) for factor in (0.9, 1.1))


def test_parabola_fit_is_exact_on_a_parabola_and_biased_on_the_law():
    N = np.geomspace(1e4, 1e6, 7)
    assert parabola_minimum(N, (np.log(N) - np.log(2e5)) ** 2) == pytest.approx(2e5)
    law = LAWS[1]
    sizes = law.best_size(1e14)[0] * np.geomspace(0.03, 30, 9)
    found = parabola_minimum(sizes, law.loss(sizes, 1e14 / 6 / sizes))
    assert abs(np.log(found / law.best_size(1e14)[0])) > 0.02
    with pytest.raises(UserError, match="no minimum"):
        parabola_minimum(N, -((np.log(N) - 10) ** 2))
    with pytest.raises(UserError, match="at least 3"):
        parabola_minimum(N[:2], N[:2])


def test_too_few_runs_are_an_error():
    N, D, L = grid(LAWS[0])
    with pytest.raises(UserError, match="5 runs of"):
        fit_scaling_law(N[:5], D[:5], L[:5])
    with pytest.raises(UserError, match="1 lengths"):
        fit_scaling_law(N, np.full_like(D, 5.0), L)


def test_losses_that_follow_another_curve_are_not_described():
    N, D, _ = grid(LAWS[0])
    assert not fit_scaling_law(N, D, np.sin(np.arange(len(N))), bootstraps=2).describes


def test_law_without_a_term_has_no_best_size():
    assert np.isnan(ScalingLaw(0.3, 0.0, 5.0, 0.5, 0.5).best_size(1e12)).all()
