"""Judge an experiment: compare each arm with the reference over paired seeds, in a sentence.

A run that diverged or failed is never left out: its arm gets no verdict about the mean, since an
arm that only finishes with lucky seeds would look better than it is.
Tests: tests/experiments/test_verdict.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from llm_scratch.experiments.experiment import Experiment
from llm_scratch.experiments.metrics import Metric
from llm_scratch.experiments.results import RunResult
from llm_scratch.experiments.statistics import (
    MIN_ANALYSIS_SEEDS,
    POWER,
    difference_p,
    equivalence_p,
    holm,
    interval,
    level_at,
    seeds_needed,
)
from llm_scratch.formatting import counted

Verdict = Literal["better", "worse", "equivalent", "not shown", "failures", "too early"]


@dataclass(frozen=True)
class Estimate:
    """Mean difference of an arm in one analysis, interim or final, with interval and p-values.

    Attributes:
        level: the error probability that this analysis spends.
        low, high: the interval of the mean difference; the intervals of all arms in all analyses
            cover the truth together with 95 % probability.
        p: p-value of no difference, after Holm's correction for several arms.
        p_equivalent: p-value of a difference that matters, after Holm's correction.
    """

    level: float
    low: float
    high: float
    p: float
    p_equivalent: float


@dataclass(frozen=True)
class Comparison:
    """An arm compared with the reference.

    Attributes:
        arm, reference: their names.
        verdict: "better", "worse", "equivalent" (any difference is below the smallest that
            matters), "not shown", "failures" (a run of the two did not finish), "too early".
        n_planned: seeds of the experiment.
        n_failed, n_failed_reference: runs that diverged or failed.
        differences: seed -> arm minus reference, for the pairs whose runs both finished.
        estimate: from the differences;
            None if it is too early for a verdict, or a run did not finish.
        margin: the smallest difference that matters.
        n_needed: seeds that would show a difference of `margin` with 80 % probability; None if
            unknown or more than 100,000.
        n_arms: arms that are compared with the reference.
        higher_is_better: of the metric.
        unit: name of the metric.
    """

    arm: str
    reference: str
    verdict: Verdict
    n_planned: int
    n_failed: int
    n_failed_reference: int
    differences: dict[int, float]
    estimate: Estimate | None
    margin: float
    n_needed: int | None
    n_arms: int
    higher_is_better: bool
    unit: str

    @property
    def n_seeds(self) -> int:
        """Pairs whose runs both finished."""
        return len(self.differences)

    @property
    def mean(self) -> float | None:
        """Mean of the differences; None without a pair."""
        return float(np.mean(list(self.differences.values()))) if self.differences else None

    @property
    def sd(self) -> float | None:
        """Standard deviation of the differences; None below two pairs."""
        return float(np.std(list(self.differences.values()), ddof=1)) if self.n_seeds >= 2 else None

    @property
    def is_decided(self) -> bool:
        """Whether a difference is shown or ruled out, so that an experiment may stop early."""
        return self.verdict in ("better", "worse", "equivalent")

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.verdict == "failures":
            return _failures(self)
        if self.mean is None or self.estimate is None:
            return _too_early(self)
        return _SENTENCES[self.verdict](self, self.mean, self.estimate)


def compare_arms(
    experiment: Experiment, metric: Metric, results: Sequence[RunResult]
) -> list[Comparison]:
    """Compare each arm with the first one.

    Args:
        experiment: its arms and seeds.
        metric: of the values, with the smallest effect that matters.
        results: of the runs so far.
    """
    reference, *others = [arm.name for arm in experiment.arms]
    planned = len(experiment.seeds)
    margin = metric.smallest_effect or 0.0
    pairs = {name: _pairs(results, reference, name, experiment.seeds) for name in others}
    differences = {name: _differences(pairs[name]) for name in others}
    estimates = _corrected(
        [
            _estimate(differences[name], len(pairs[name]), planned, margin, len(others))
            for name in others
        ]
    )
    comparisons = []
    for name, estimate in zip(others, estimates, strict=True):
        comparison = Comparison(
            arm=name,
            reference=reference,
            verdict="too early",
            n_planned=planned,
            n_failed=_n_failed(results, name),
            n_failed_reference=_n_failed(results, reference),
            differences=differences[name],
            estimate=estimate,
            margin=margin,
            n_needed=None,
            n_arms=len(others),
            higher_is_better=metric.higher_is_better,
            unit=metric.name,
        )
        if comparison.sd is not None and margin:
            n_needed = seeds_needed(margin, comparison.sd, len(others))
        else:
            n_needed = None
        comparisons.append(replace(comparison, verdict=_verdict(comparison), n_needed=n_needed))
    return comparisons


def _pairs(
    results: Sequence[RunResult], reference: str, arm: str, seeds: Sequence[int]
) -> list[tuple[RunResult, RunResult]]:
    """The runs of the reference and of the arm with the same seed, where both are done."""
    by_run = {(result.arm, result.seed): result for result in results}
    return [
        (by_run[reference, seed], by_run[arm, seed])
        for seed in seeds
        if (reference, seed) in by_run and (arm, seed) in by_run
    ]


def _n_failed(results: Sequence[RunResult], arm: str) -> int:
    return sum(result.arm == arm and result.state != "finished" for result in results)


def _differences(pairs: Sequence[tuple[RunResult, RunResult]]) -> dict[int, float]:
    """Seed -> arm minus reference, for the pairs whose runs both finished."""
    return {
        b.seed: b.value - a.value for a, b in pairs if a.value is not None and b.value is not None
    }


def _estimate(
    differences: Mapping[int, float], n_pairs: int, planned: int, margin: float, n_arms: int
) -> Estimate | None:
    """The tests of an arm, p-values uncorrected; None if it is too early or a run is missing."""
    level = level_at(n_pairs, planned)
    if level == 0 or len(differences) < max(2, n_pairs):
        return None
    values = np.array(list(differences.values()))
    low, high = interval(values, level / n_arms)
    return Estimate(
        level,
        float(low),
        float(high),
        float(difference_p(values)),
        float(equivalence_p(values, margin)),
    )


def _corrected(estimates: Sequence[Estimate | None]) -> list[Estimate | None]:
    """The estimates with p-values corrected for the number of arms, those without one too."""
    p = holm(np.array([estimate.p if estimate else 1.0 for estimate in estimates]))
    p_equivalent = holm(
        np.array([estimate.p_equivalent if estimate else 1.0 for estimate in estimates])
    )
    return [
        estimate and replace(estimate, p=float(p[i]), p_equivalent=float(p_equivalent[i]))
        for i, estimate in enumerate(estimates)
    ]


def _verdict(comparison: Comparison) -> Verdict:
    """The verdict of this analysis."""
    estimate = comparison.estimate
    if comparison.n_failed or comparison.n_failed_reference:
        return "failures"
    if estimate is None or comparison.mean is None:
        return "too early"
    if estimate.p <= estimate.level:
        return "better" if (comparison.mean > 0) == comparison.higher_is_better else "worse"
    return "equivalent" if estimate.p_equivalent <= estimate.level else "not shown"


def format_value(value: float, signed: bool = False) -> str:
    """A value of a metric, or with its sign a difference: 1.2345, +0.0123, 84.2."""
    if abs(value) >= 1e5:
        return f"{value:{'+' if signed else ''}.3g}".replace("-", "\u2212")
    digits = 1 if abs(value) >= 10 else 4
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "\u2212")


def format_p(p: float) -> str:
    """A p-value after its sign: "= 0.031", "< 0.0001"."""
    return "< 0.0001" if p < 1e-4 else f"= {p:.2g}"


def format_interval(comparison: Comparison, estimate: Estimate) -> str:
    """The interval, the number of seeds and the p-value."""
    low, high = (format_value(bound, signed=True) for bound in (estimate.low, estimate.high))
    corrected = f", corrected for {comparison.n_arms} comparisons" if comparison.n_arms > 1 else ""
    p = f"p {format_p(estimate.p)}{corrected}"
    return f"95 % interval {low} to {high}, {comparison.n_seeds} seeds, {p}"


def _shown(comparison: Comparison, mean: float, estimate: Estimate) -> str:
    direction = "higher" if mean > 0 else "lower"
    sentence = (
        f"Shown: {comparison.arm} is {comparison.verdict} than {comparison.reference}:"
        f" {format_value(abs(mean))} {comparison.unit} {direction}"
        f" ({format_interval(comparison, estimate)})."
    )
    if max(abs(estimate.low), abs(estimate.high)) < comparison.margin:
        sentence += (
            f" The difference is smaller than {comparison.margin:g},"
            " the smallest that matters here."
        )
    return sentence


def _equivalent(comparison: Comparison, mean: float, estimate: Estimate) -> str:
    return (
        f"Not shown, and a difference that matters is ruled out: {comparison.arm} and"
        f" {comparison.reference} differ by less than {comparison.margin:g} {comparison.unit} (mean"
        f" {format_value(mean, signed=True)}, {format_interval(comparison, estimate)})."
    )


def _not_shown(comparison: Comparison, mean: float, estimate: Estimate) -> str:
    sentence = (
        f"Not shown: no difference between {comparison.arm} and {comparison.reference}"
        f" ({format_value(mean, signed=True)} {comparison.unit},"
        f" {format_interval(comparison, estimate)})."
    )
    if comparison.n_needed is None:
        return sentence
    promise = f"{100 * POWER:.0f} % probability"
    return (
        f"{sentence} To show a difference of {comparison.margin:g} with {promise} takes"
        f" {comparison.n_needed:,} seeds."
    )


def _failures(comparison: Comparison) -> str:
    """Which runs did not finish."""
    counts = {
        comparison.arm: comparison.n_failed,
        comparison.reference: comparison.n_failed_reference,
    }
    listed = " and ".join(
        f"{counted(count, 'run')} of {name}" for name, count in counts.items() if count
    )
    rest = ""
    if comparison.mean is not None:
        mean = format_value(comparison.mean, signed=True)
        rest = (
            f" In the {comparison.n_seeds} finished pairs the mean difference is {mean}"
            f" {comparison.unit}."
        )
    return (
        f"No verdict: {listed} did not finish,"
        f" and leaving that out would favor the arm that fails.{rest}"
    )


def _too_early(comparison: Comparison) -> str:
    needed = min(MIN_ANALYSIS_SEEDS, comparison.n_planned)
    return (
        f"Too early: {comparison.n_seeds} of {comparison.n_planned} seeds of {comparison.arm} and"
        f" {comparison.reference} are done; a verdict needs {needed}."
    )


_SENTENCES: dict[Verdict, Callable[[Comparison, float, Estimate], str]] = {
    "better": _shown,
    "worse": _shown,
    "equivalent": _equivalent,
    "not shown": _not_shown,
}
