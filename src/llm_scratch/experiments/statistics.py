"""Compare settings over paired seeds: t interval, Holm, equivalence test, power, early stopping.

Differences are arm minus reference, one for each seed, so what the seeds have in common cancels.
All functions take arrays [..., n] and work along the last axis, so that tests can simulate
thousands of experiments at once.

Interim analyses, before the last seed, keep the error rate because each analysis spends its own
part of `ALPHA`, and the parts sum to `ALPHA` (Bonferroni over analyses, so no assumption about
their dependence). The intervals at these levels therefore cover the truth in all analyses together
with 95 % probability.
Tests: tests/experiments/test_statistics.py (scipy's and
statsmodels' values, simulated experiments).
Source: Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials" (alpha spending);
Jennison and Turnbull 1989, "Interim analyses: the repeated confidence interval approach"; Haybittle
1971 (a strict level before the end); Holm 1979, "A simple sequentially rejective multiple test
procedure"; Schuirmann 1987 (two one-sided tests).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llm_scratch.errors import UserError
from llm_scratch.extras import install_command

ALPHA = 0.05
"""Probability that a difference is reported although there is none, in all analyses and arms."""
INTERIM_ALPHA = 0.005
"""The part of `ALPHA` that all interim analyses share."""
MIN_ANALYSIS_SEEDS = 3
"""Least seeds for a verdict of an interim analysis: two show only absurd effects."""
POWER = 0.8
"""Probability with which a plan promises to show an effect."""
MAX_SEEDS = 100_000
ALPHA_SPENDING_RULE = (
    "Alpha spending: interim analyses, before the last seed, share an error probability of"
    f" {INTERIM_ALPHA:g}; the final analysis has the rest of {ALPHA:g}."
)


def distributions() -> Any:
    """The module `scipy.stats`.

    Raises:
        UserError: scipy is not installed; names the command that installs it.
    """
    try:
        from scipy import stats
    except ImportError:
        raise UserError(
            f"experiments need scipy, which is not installed; {install_command('experiments')}"
        ) from None
    return stats


def level_at(n: int, planned: int) -> float:
    """The error probability that the analysis after `n` of `planned` seeds spends; 0: too early."""
    if n >= planned:
        return ALPHA if planned <= MIN_ANALYSIS_SEEDS else ALPHA - INTERIM_ALPHA
    return INTERIM_ALPHA / (planned - MIN_ANALYSIS_SEEDS) if n >= MIN_ANALYSIS_SEEDS else 0.0


def mean_and_stderr(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of differences [..., n] and its standard error, both [...]; n is at least 2."""
    n = differences.shape[-1]
    return differences.mean(-1), differences.std(-1, ddof=1) / np.sqrt(n)


def interval(differences: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The t interval of mean differences [..., n]; misses the truth with probability `level`."""
    mean, stderr = mean_and_stderr(differences)
    half = distributions().t.ppf(1 - level / 2, differences.shape[-1] - 1) * stderr
    return mean - half, mean + half


def difference_p(differences: np.ndarray) -> np.ndarray:
    """p-value of the two-sided paired t-test that the mean of differences [..., n] is 0.

    Differences that are all the same have no noise: p is 1 if they are 0, else 0.
    """
    mean, stderr = mean_and_stderr(differences)
    return 2 * _tail(np.abs(mean), stderr, differences.shape[-1] - 1, at_zero=0.5)


def equivalence_p(differences: np.ndarray, margin: float) -> np.ndarray:
    """p-value of two one-sided t-tests: the mean of [..., n] is within -margin to margin."""
    mean, stderr = mean_and_stderr(differences)
    return _tail(margin - np.abs(mean), stderr, differences.shape[-1] - 1, at_zero=1.0)


def _tail(distance: np.ndarray, stderr: np.ndarray, df: int, at_zero: float) -> np.ndarray:
    """P(T > distance / stderr) for Student's t.

    Without noise it is 0 or 1, and `at_zero` for a distance of 0.
    """
    has_noise = stderr > 0
    t = np.divide(
        distance, stderr, where=has_noise, out=np.zeros_like(np.asarray(distance, dtype=float))
    )
    without_noise = np.where(distance > 0, 0.0, np.where(distance < 0, 1.0, at_zero))
    return np.where(has_noise, distributions().t.sf(t, df), without_noise)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values [..., m] of m arms, corrected for m tests by Holm's method."""
    m = p.shape[-1]
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, -1) * np.arange(m, 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0)
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, -1)
    return result


def power(effect: float, sd: float, n: int, level: float) -> float:
    """Probability that `n` seeds show a true difference of `effect`, with its sign.

    Args:
        effect: the true mean difference.
        sd: standard deviation of the differences between seeds.
        n: seeds, at least 2.
        level: error probability of the test (for several arms, divided by their number).
    """
    if sd == 0:
        return 1.0 if effect else 0.0
    stats = distributions()
    limit = stats.t.ppf(1 - level / 2, n - 1)
    shift = abs(effect) / sd * np.sqrt(n)
    return float(stats.nct.sf(limit, n - 1, shift))


def seeds_needed(effect: float, sd: float, arms: int = 1, promise: float = POWER) -> int | None:
    """The fewest seeds that show `effect` with probability `promise`; None above 100,000.

    Args:
        effect, sd: as in `power`.
        arms: number of arms that are compared with the reference.
        promise: the probability.
    """

    def is_enough(n: int) -> bool:
        return power(effect, sd, n, level_at(n, n) / arms) >= promise

    high = 2
    while not is_enough(high):
        high *= 2
        if high > MAX_SEEDS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def detectable_effect(sd: float, n: int, arms: int = 1, promise: float = POWER) -> float:
    """The smallest true difference that `n` seeds show with probability `promise`.

    Args:
        sd, n: as in `power`.
        arms: number of arms that are compared with the reference.
        promise: the probability.
    """
    if sd == 0:
        return 0.0
    from scipy.optimize import brentq

    level = level_at(n, n) / arms
    high = sd
    while power(high, sd, n, level) < promise:
        high *= 2
    return float(
        brentq(lambda effect: power(effect, sd, n, level) - promise, 0.0, high, xtol=1e-6 * sd)
    )


def sd_range(sd: float, n: int, level: float = 0.2) -> tuple[float, float]:
    """The interval of a standard deviation of `n` values, at least 2, that misses with `level`."""
    stats = distributions()
    lower, upper = stats.chi2.ppf([level / 2, 1 - level / 2], n - 1)
    return float(sd * np.sqrt((n - 1) / upper)), float(sd * np.sqrt((n - 1) / lower))
