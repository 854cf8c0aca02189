"""The loop of AGENTS.md: of ten proposed changes nine have no effect.

The verdict decides what is kept.
"""

from __future__ import annotations

import numpy as np
import pytest

from llm_scratch.experiments.experiment import Arm, Experiment
from llm_scratch.experiments.metrics import find_metric
from llm_scratch.experiments.verdict import compare_arms

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")

N_LOOPS, N_CHANGES, SEEDS = 20, 10, (1, 2, 3, 4, 5)
SD_SEED, SD_RUN, EFFECT = 0.01, 0.005, -0.03
"""Bits per byte: of what the runs of a seed share,
of each run alone, and of the change that helps.
"""


def loop(rng: np.random.Generator, result, useful: int) -> list[int]:
    """Return the numbers of the kept changes; the recipe with them is the next reference."""
    metric = find_metric("bits_per_byte")
    recipe_loss = 1.2
    kept = []
    for number in range(N_CHANGES):
        experiment = Experiment("loop", "quickstart", (Arm("recipe"), Arm("change")), SEEDS)
        true_losses = {
            "recipe": recipe_loss,
            "change": recipe_loss + (EFFECT if number == useful else 0.0),
        }
        shared = rng.normal(0, SD_SEED, len(SEEDS))
        results = [
            result(name, seed, loss + common + rng.normal(0, SD_RUN))
            for seed, common in zip(SEEDS, shared, strict=True)
            for name, loss in true_losses.items()
        ]
        (comparison,) = compare_arms(experiment, metric, results)
        if comparison.verdict == "better":
            kept.append(number)
            recipe_loss = true_losses["change"]
    return kept


def test_changes_that_do_nothing_are_rarely_kept_and_the_useful_one_is(result):
    rng = np.random.default_rng(19)
    n_noise = n_useful = 0
    for repetition in range(N_LOOPS):
        useful = repetition % N_CHANGES
        kept = loop(rng, result, useful)
        n_noise += len(set(kept) - {useful})
        n_useful += useful in kept
    assert n_noise <= N_LOOPS * (N_CHANGES - 1) / 20
    assert n_useful >= 0.9 * N_LOOPS
