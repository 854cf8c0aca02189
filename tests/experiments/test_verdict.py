"""Verdicts follow the statistical tests, and an unfinished run is never left out."""

from __future__ import annotations

import numpy as np
import pytest

from llm_scratch.experiments.experiment import Arm, Experiment
from llm_scratch.experiments.metrics import Metric
from llm_scratch.experiments.statistics import difference_p, equivalence_p, holm, level_at
from llm_scratch.experiments.verdict import Comparison, compare_arms, format_p, format_value

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

LOSS = Metric("bits per byte", lambda run: None, smallest_effect=0.005)
SKILL = Metric("accuracy", lambda run: None, smallest_effect=0.02, higher_is_better=True)


def experiment(arms: int, seeds: int) -> Experiment:
    return Experiment(
        "x", "quickstart", tuple(Arm(f"arm{i}") for i in range(arms)), tuple(range(1, seeds + 1))
    )


def compare(result, values, seeds=None, metric=LOSS) -> list[Comparison]:
    """The comparisons of values [arms][seeds]; None: the run diverged."""
    made = experiment(len(values), seeds or len(values[0]))
    results = [
        result(f"arm{i}", seed, value)
        for i, row in enumerate(values)
        for seed, value in enumerate(row, 1)
    ]
    return compare_arms(made, metric, results)


BASE = [0.50, 0.51, 0.49, 0.50, 0.52]


@pytest.mark.parametrize(
    ("metric", "shift", "verdict", "words"),
    [
        (LOSS, -0.02, "better", "Shown: arm1 is better than arm0: 0.0200 bits per byte lower"),
        (LOSS, 0.02, "worse", "Shown: arm1 is worse than arm0: 0.0200 bits per byte higher"),
        (SKILL, 0.2, "better", "Shown: arm1 is better than arm0: 0.2000 accuracy higher"),
    ],
)
def test_clear_difference_is_shown_in_the_direction_of_the_metric(
    result, metric, shift, verdict, words
):
    noise = [0.001, -0.001, 0.0005, 0.0, -0.0005]
    (comparison,) = compare(
        result, [BASE, [a + shift + e for a, e in zip(BASE, noise, strict=True)]], metric=metric
    )
    assert comparison.verdict == verdict
    assert comparison.sentence.startswith(words)
    assert "95 % interval" in comparison.sentence
    assert "5 seeds" in comparison.sentence
    assert comparison.is_decided


def test_noise_is_not_shown_and_the_seeds_that_would_be_needed_are_named(result):
    (comparison,) = compare(result, [BASE, [0.51, 0.50, 0.50, 0.49, 0.53]])
    assert comparison.verdict == "not shown"
    assert comparison.sentence.startswith("Not shown: no difference between arm1 and arm0")
    assert (
        f"To show a difference of 0.005 with 80 % probability takes {comparison.n_needed} seeds."
        in comparison.sentence
    )


def test_difference_that_is_too_small_to_matter_is_ruled_out(result):
    noise = [0.0005, -0.0004, 0.0003, 0.0001, -0.0006]
    (comparison,) = compare(result, [BASE, [a + e for a, e in zip(BASE, noise, strict=True)]])
    assert comparison.verdict == "equivalent"
    assert "differ by less than 0.005 bits per byte" in comparison.sentence
    small = [a + 0.002 + e / 10 for a, e in zip(BASE, noise, strict=True)]
    (comparison,) = compare(result, [BASE, small])
    assert comparison.verdict == "worse"
    assert comparison.sentence.endswith(
        "The difference is smaller than 0.005, the smallest that matters here."
    )


def test_identical_values_are_equivalent_and_no_warning(result):
    (comparison,) = compare(result, [BASE, BASE])
    assert comparison.verdict == "equivalent"
    assert comparison.estimate.p == 1.0


def test_diverged_run_prevents_a_verdict(result):
    (comparison,) = compare(result, [BASE, [0.3, None, 0.3, 0.3, 0.3]])
    assert comparison.verdict == "failures"
    assert comparison.sentence.startswith("No verdict: 1 run of arm1 did not finish")
    assert comparison.estimate is None
    assert comparison.n_seeds == 4
    assert not comparison.is_decided
    (comparison,) = compare(result, [[None, None, *BASE[2:]], BASE])
    assert "2 runs of arm0" in comparison.sentence


def test_verdict_is_too_early_with_too_few_seeds(result):
    values = [BASE[:2], [0.3, 0.3]]
    (comparison,) = compare(result, values, seeds=5)
    assert comparison.verdict == "too early"
    assert (
        comparison.sentence
        == "Too early: 2 of 5 seeds of arm1 and arm0 are done; a verdict needs 3."
    )
    (comparison,) = compare(result, [[0.5, 0.51], [0.3, 0.3101]], seeds=2)
    assert comparison.verdict == "better"


def test_early_interim_analysis_needs_more_evidence_than_the_last(result):
    base, arm = [0.5, 0.5, 0.5], [0.48, 0.484, 0.479]
    (early,) = compare(result, [base, arm], seeds=5)
    (last,) = compare(result, [base, arm], seeds=3)
    assert (early.verdict, last.verdict) == ("not shown", "better")
    assert early.estimate.low < last.estimate.low < last.estimate.high < early.estimate.high


def test_verdicts_of_random_experiments_are_those_of_the_vectorized_tests(result):
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(60):
        values = rng.normal(0.5, 0.004, (4, 6)) + rng.choice([0.0, 0.01], 4)[:, None]
        d = values[1:] - values[:1]
        p, q = holm(difference_p(d)), holm(equivalence_p(d, 0.005))
        expected = [
            ("worse" if mean > 0 else "better") if shown else "equivalent" if same else "not shown"
            for shown, same, mean in zip(
                p <= level_at(6, 6), q <= level_at(6, 6), d.mean(-1), strict=True
            )
        ]
        comparisons = compare(result, values.tolist())
        assert [comparison.verdict for comparison in comparisons] == expected
        for comparison in comparisons:  # an interval that excludes 0 is a difference that is shown
            assert (
                comparison.estimate.low <= 0 <= comparison.estimate.high
                or comparison.verdict in ("better", "worse")
            )
        seen |= set(expected)
    assert len(seen) >= 3


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.48912, False, "0.4891"),
        (-0.0203, True, "−0.0203"),
        (0.0024, True, "+0.0024"),
        (84.21, False, "84.2"),
        (5.6e10, True, "+5.6e+10"),
    ],
)
def test_values_are_printed_with_significant_decimals(value, signed, text):
    assert format_value(value, signed) == text


@pytest.mark.parametrize(("p", "text"), [(0.0312, "= 0.031"), (1.0, "= 1"), (7e-5, "< 0.0001")])
def test_p_values_are_printed_with_their_relation_sign(p, text):
    assert format_p(p) == text
