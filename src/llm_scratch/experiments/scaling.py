"""Fit a scaling law to runs of several sizes and lengths, and predict a larger run.

The law is L = E + A / N^a + B / D^b: loss L, N parameters, D training tokens. For given exponents
a and b it is linear in E, A and B, which are solved exactly (least squares with all three at least
0); only the two exponents are searched. Intervals come from a bootstrap over runs.
Tests: tests/experiments/test_scaling.py (known constants are found, a larger run is predicted).
Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models",
https://arxiv.org/abs/2203.15556, section 3.3 (the law), 3.2 (the parabola); Golub and Pereyra 1973,
"The differentiation of pseudo-inverses and nonlinear least squares" (solving the linear part).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from llm_scratch.errors import DATA, UserError
from llm_scratch.experiments.statistics import distributions

MIN_RUNS = 6
"""One more than the constants of the law."""
STARTS = (0.1, 0.3, 0.5, 0.9)
"""Exponents from which the search starts, for both."""
EXPONENTS = (0.01, 3.0)
"""Bounds of the exponents."""
BOOTSTRAPS = 200
MAX_RESIDUAL = 0.05
"""Errors as a share of the spread of the losses, up to which a law describes its runs."""
LEVEL = 0.05


@dataclass(frozen=True)
class ScalingLaw:
    """The constants of L = E + A / N^a + B / D^b."""

    E: float
    A: float
    B: float
    a: float
    b: float

    def loss(self, parameters: np.ndarray | float, tokens: np.ndarray | float) -> Any:
        """The loss of models with these numbers of parameters after these numbers of tokens."""
        return (
            self.E
            + self.A / np.asarray(parameters, dtype=float) ** self.a
            + self.B / np.asarray(tokens, dtype=float) ** self.b
        )

    def best_size(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens with the lowest loss for 6 N D FLOPs; NaN if a term is 0.

        Source: Hoffmann et al. 2022, equation 4.
        """
        if not (self.A and self.B):
            return float("nan"), float("nan")
        share = self.b / (self.a + self.b)
        ratio = (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b))
        parameters = ratio * (flops / 6) ** share
        return parameters, flops / 6 / parameters


@dataclass(frozen=True)
class ScalingFit:
    """A fitted law.

    Attributes:
        law: of all runs.
        samples: the laws of the bootstrap.
        residual: root mean square of the errors, in units of the loss.
        spread: the largest loss of a run less the smallest.
    """

    law: ScalingLaw
    samples: tuple[ScalingLaw, ...]
    residual: float
    spread: float

    @property
    def describes(self) -> bool:
        """Whether the law fits: its errors are small compared with the differences between runs."""
        return self.residual <= MAX_RESIDUAL * self.spread

    def interval(self, constant: str, level: float = LEVEL) -> tuple[float, float]:
        """The bootstrap interval of a constant, such as "E"."""
        return _quantiles([getattr(sample, constant) for sample in self.samples], level)

    def prediction(
        self, parameters: float, tokens: float, level: float = LEVEL
    ) -> tuple[float, float, float]:
        """The loss of a run, and an interval that includes the noise of a single run."""
        noise = np.random.default_rng(0).normal(0, self.residual, len(self.samples))
        losses = [
            float(sample.loss(parameters, tokens)) + e
            for sample, e in zip(self.samples, noise, strict=True)
        ]
        return float(self.law.loss(parameters, tokens)), *_quantiles(losses, level)


def fit_scaling_law(
    parameters: np.ndarray,
    tokens: np.ndarray,
    losses: np.ndarray,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> ScalingFit:
    """Fit the law to runs.

    Args:
        parameters, tokens, losses: of each run, [n] each.
        bootstraps: samples for the intervals.
        seed: of the bootstrap.
    Raises:
        UserError: fewer than 6 runs, or all of one size or one length (exit code 3).
    """
    n = len(losses)
    if n < MIN_RUNS or len(set(parameters)) < 3 or len(set(tokens)) < 3:
        raise UserError(
            f"scaling law: {n} runs of {len(set(parameters))} sizes and {len(set(tokens))} lengths"
            f" do not determine 5 constants; give at least {MIN_RUNS} runs, 3 sizes and 3 lengths",
            DATA,
        )
    starts = [(a, b) for a in STARTS for b in STARTS]
    law = _fit(parameters, tokens, losses, starts)
    errors = losses - law.loss(parameters, tokens)
    free = max(1, n - 5)
    rng = np.random.default_rng(seed)
    scaled = errors * np.sqrt(n / free)  # a fit makes its own errors smaller than the noise is
    fitted = law.loss(parameters, tokens)
    samples = tuple(
        _fit(parameters, tokens, fitted + rng.choice(scaled, n), [(law.a, law.b)])
        for _ in range(bootstraps)
    )
    return ScalingFit(law, samples, float(np.sqrt((errors**2).sum() / free)), float(np.ptp(losses)))


def _fit(
    parameters: np.ndarray,
    tokens: np.ndarray,
    losses: np.ndarray,
    starts: list[tuple[float, float]],
) -> ScalingLaw:
    """The law with the smallest squared error, searched from several pairs of exponents."""
    distributions()  # the error for a missing scipy
    from scipy.optimize import least_squares

    # in units of the largest run, so that the columns have similar sizes
    sizes, lengths = parameters / parameters.max(), tokens / tokens.max()

    def errors(exponents: np.ndarray) -> np.ndarray:
        columns = _columns(sizes, lengths, exponents)
        return columns @ _solve(columns, losses) - losses

    lower, upper = EXPONENTS
    fits = [
        least_squares(
            errors,
            start,
            bounds=([lower, lower], [upper, upper]),
            x_scale=0.1,
            xtol=1e-12,
            ftol=1e-12,
        )
        for start in starts
    ]
    a, b = min(fits, key=lambda each: each.cost).x
    E, A, B = _solve(_columns(sizes, lengths, np.array([a, b])), losses)
    return ScalingLaw(
        float(E), float(A * parameters.max() ** a), float(B * tokens.max() ** b), float(a), float(b)
    )


def _columns(sizes: np.ndarray, lengths: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """The columns that E, A and B multiply, [n, 3]."""
    a, b = exponents
    return np.stack([np.ones_like(sizes), sizes**-a, lengths**-b], axis=1)


def _solve(columns: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """E, A and B by least squares, none below 0."""
    from scipy.optimize import nnls

    return nnls(columns, losses)[0]


def _quantiles(values: list[float], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [level / 2, 1 - level / 2])
    return float(low), float(high)


def parabola_minimum(parameters: np.ndarray, losses: np.ndarray) -> float:
    """The best size for a budget: the minimum of a parabola through log N and loss.

    It is biased where the true curve is not symmetric about its minimum; `ScalingLaw.best_size` is
    not.

    Raises:
        UserError: fewer than 3 sizes, or a parabola without a minimum (exit code 3).
    """
    if len(set(parameters)) < 3:
        raise UserError(
            f"parabola: {len(set(parameters))} sizes do not determine it; give at least 3", DATA
        )
    curvature, slope, _ = np.polyfit(np.log(parameters), losses, 2)
    if curvature <= 0:
        raise UserError(
            "parabola: the loss has no minimum over these sizes; give smaller and larger ones", DATA
        )
    return float(np.exp(-slope / (2 * curvature)))
