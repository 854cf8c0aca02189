"""The best learning rate of each width, and how it changes with the width, with intervals.

For one width the best rate is the minimum of the parabola through the loss of the best rate that
was tried and of its two neighbors, over log rate. Over the widths a straight line is fitted to log
best rate against log width; its slope is shown as the factor for a doubling of the width.

Intervals resample the seeds, each with all its runs, so what a seed does to all rates cancels.
With few seeds the quantiles of a bootstrap are too narrow; the interval is therefore Student's t
with the standard error of the bootstrap.
Tests: tests/experiments/test_transfer.py (known minima are found, the intervals cover them).
Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 12; Yang et
al. 2022, https://arxiv.org/abs/2203.03466 (rates that transfer across widths).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from llm_scratch.experiments.statistics import distributions

BOOTSTRAPS = 1000
LEVEL = 0.05
MAX_CHANGE = 2**0.5
"""The largest factor for a doubling of the width, either way, that counts as no change."""

Edge = Literal["", "lowest", "highest", "too few"]


@dataclass(frozen=True)
class BestRate:
    """The best rate of one width.

    Attributes:
        rate: None where it is at the edge of the rates.
        low, high: its 95 % interval; None without a rate, or with one seed.
        edge: which of the rates without a diverged run is the best, if it is the first or the last
            of them; "too few": there are fewer than three of them.
    """

    rate: float | None
    low: float | None
    high: float | None
    edge: Edge


@dataclass(frozen=True)
class Transfer:
    """The best rates of an arm, and their trend.

    Attributes:
        best: for each width.
        factor: of the best rate for a doubling of the width; None below two widths with a rate.
        low, high: its 95 % interval; None without a factor, or with one seed.
    """

    best: tuple[BestRate, ...]
    factor: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Literal["stays", "falls", "rises", "not shown"]:
        """What the best rate does as the width grows, as far as it is shown."""
        if self.low is None or self.high is None:
            return "not shown"
        if self.high < 1:
            return "falls"
        if self.low > 1:
            return "rises"
        return "stays" if self.low > 1 / MAX_CHANGE and self.high < MAX_CHANGE else "not shown"


def analyze(
    widths: np.ndarray,
    rates: np.ndarray,
    losses: np.ndarray,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> Transfer:
    """The best rates of an arm and their trend.

    Args:
        widths, rates: [W] and [R], both ascending, R at least 3.
        losses: [W, R, S], one for each seed; infinite where the run diverged.
        bootstraps: samples for the intervals.
        seed: of the bootstrap.
    """
    n_seeds = losses.shape[2]
    chosen = np.random.default_rng(seed).integers(n_seeds, size=(bootstraps, n_seeds))  # [B, S]
    mean, samples = losses.mean(-1), losses[:, :, chosen].mean(-1)  # [W, R], [W, R, B]
    log_rates = np.log2(rates)
    minima = [
        best_log_rate(log_rates, mean[i], np.moveaxis(samples[i], -1, 0))
        for i in range(len(widths))
    ]
    best = tuple(_best(*each, n_seeds) for each in minima)
    inside = [i for i, (_, _, edge) in enumerate(minima) if not edge]
    if len(inside) < 2:
        return Transfer(best, None, None, None)
    x = np.log2(widths[inside])
    slope = _slope(x, np.array([minima[i][0] for i in inside]))
    spread = _slope(x, np.stack([minima[i][1] for i in inside]))  # [B]
    low, high = _interval(float(slope), spread, n_seeds)
    return Transfer(best, float(2**slope), low, high)


def _best(log_rate: float, samples: np.ndarray, edge: Edge, n_seeds: int) -> BestRate:
    """The best rate of a width from what `best_log_rate` returns."""
    if edge:
        return BestRate(None, None, None, edge)
    low, high = _interval(log_rate, samples, n_seeds)
    return BestRate(2**log_rate, low, high, "")


def best_log_rate(
    log_rates: np.ndarray, mean: np.ndarray, samples: np.ndarray
) -> tuple[float, np.ndarray, Edge]:
    """The minimum over log rate of mean losses, and of those of each sample.

    Args:
        log_rates: [R], ascending.
        mean, samples: [R] and [B, R].
    Returns:
        The minimum; those of the samples, [B], each inside the rates; and the edge, as in
        `BestRate`.
    """
    trained = np.isfinite(mean)
    if trained.sum() < 3:
        return float("nan"), samples[:, 0], "too few"
    x, mean, samples = log_rates[trained], mean[trained], samples[:, trained]
    i = int(mean.argmin())
    edge: Edge = "lowest" if i == 0 else "highest" if i == len(x) - 1 else ""
    return float(_minimum(x, mean[None])[0]), _minimum(x, samples), edge


def _minimum(x: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """The minimum of the parabola through the lowest loss and its neighbors: [B, R] -> [B].

    Where the lowest loss is at an edge, it is that edge.
    """
    lowest = losses.argmin(-1)
    i = lowest.clip(1, len(x) - 2)[:, None] + np.array([-1, 0, 1])  # [B, 3]
    (x0, x1, x2), (y0, y1, y2) = x[i].T, np.take_along_axis(losses, i, -1).T
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = (x0 + x1) / 2 - left / (2 * curvature)
    is_inside = (lowest > 0) & (lowest < len(x) - 1) & (curvature > 0)
    return np.where(is_inside, vertex, x[lowest])


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The slope of the least-squares line through x [W] and y [W, ...]."""
    centered = x - x.mean()
    return np.tensordot(centered, y, axes=(0, 0)) / (centered**2).sum()


def _interval(
    log_value: float, samples: np.ndarray, n_seeds: int
) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of 2**log_value from its bootstrap samples [B]; None with one seed."""
    if n_seeds < 2:
        return None, None
    # a bootstrap of n values has the variance of n - 1 of them
    stderr = float(samples.std()) * (n_seeds / (n_seeds - 1)) ** 0.5
    half = float(distributions().t.ppf(1 - LEVEL / 2, n_seeds - 1)) * stderr
    return 2 ** (log_value - half), 2 ** (log_value + half)
