"""Every arm is tuned over the same values.

The seed and the text are not those of the comparison.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_scratch.config import load_config
from llm_scratch.errors import UserError
from llm_scratch.experiments.arms import resolve_arms
from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.results import read_results
from llm_scratch.experiments.run_folders import settings_file
from llm_scratch.experiments.runner import run_experiment
from llm_scratch.experiments.search import (
    SEARCH_FILE,
    SEARCH_SEED,
    candidates_of,
    edge_warnings,
    tuned_arms,
)

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture
def searching(experiment):
    """Two arms that differ in weight decay, with a search of the rate."""
    arms = (Arm("a", ("train.weight_decay=0.0",)), Arm("b", ("train.weight_decay=0.1",)))
    return replace(
        experiment, arms=arms, seeds=(1, 2), search=(("train.lr", ("0.03", "0.01", "0.02")),)
    )


def test_candidates_are_all_combinations(searching):
    two = replace(
        searching, search=(("train.lr", ("0.1", "0.2")), ("train.warmup_steps", ("0", "1")))
    )
    assert candidates_of(two)[1] == ("train.lr=0.1", "train.warmup_steps=1")
    assert len(candidates_of(two)) == 4


def test_best_candidate_of_each_arm_is_compared(searching, tmp_path, fake_training):
    run_experiment(searching, tmp_path / "out")
    assert fake_training[:6] == [(rate, SEARCH_SEED) for _ in "ab" for rate in (0.03, 0.01, 0.02)]
    assert [rate for rate, _ in fake_training[6:]] == [0.01] * 4
    assert len(read_results(tmp_path / "out", SEARCH_FILE)) == 6
    assert load_config(settings_file(tmp_path / "out", "b")).train.lr == 0.01
    before = len(fake_training)
    run_experiment(searching, tmp_path / "out")
    assert len(fake_training) == before


def test_search_and_comparison_see_other_halves_of_the_validation_text(
    searching, tmp_path, monkeypatch
):
    seen = {}

    def train(config, folder, corpus=None, **more):
        seen.setdefault(config.train.seed == SEARCH_SEED, set()).add(corpus.val.tobytes())
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 4, "val_bits_per_byte": 1.0}\n')

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    run_experiment(searching, tmp_path / "out")
    assert len(seen[True]) == len(seen[False]) == 1
    assert seen[True] != seen[False]


def test_wrong_value_of_a_search_is_found_before_the_first_run(searching, tmp_path, fake_training):
    with pytest.raises(UserError, match=r"search: .*out of range"):
        run_experiment(replace(searching, search=(("train.lr", ("-1",)),)), tmp_path / "out")
    assert fake_training == []


@pytest.mark.parametrize("setting", ["train.steps", "train.seed"])
def test_setting_that_the_experiment_sets_is_not_searched(
    searching, tmp_path, fake_training, setting
):
    with pytest.raises(UserError, match=f"search: {setting} would be ignored, the .*; leave it"):
        run_experiment(replace(searching, search=((setting, ("2", "3")),)), tmp_path / "out")
    assert fake_training == []


def test_search_without_a_finished_candidate_is_an_error(searching, tmp_path, monkeypatch):
    def train(config, folder, **more):
        raise RuntimeError("broken")

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    with pytest.raises(UserError, match="arm a: none of the candidates"):
        run_experiment(searching, tmp_path / "out")


def test_candidates_spend_the_budget_too(searching):
    halves = replace(searching, search=(("train.batch_size", ("2", "4")),))
    arms = resolve_arms(halves)
    tuned = tuned_arms(halves, arms, arms[0].config)
    assert [config.train.steps for config in tuned.values()] == [4, 2, 4, 2]


def test_stopped_comparison_continues_with_the_same_steps_after_a_search_that_rounds_them(
    searching, tmp_path, monkeypatch
):
    steps = {}

    def train(config, folder, **more):
        train = config.train
        key = (train.seed, train.weight_decay, train.batch_size)
        steps.setdefault(key, []).append(train.steps)
        if train.seed == 2 and steps[key] == [4]:
            raise KeyboardInterrupt
        loss = train.batch_size * (1 if train.weight_decay else -1)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(f'{{"step": 4, "val_bits_per_byte": {loss}}}\n')

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    searching = replace(searching, search=(("train.batch_size", ("2", "5")),))
    with pytest.raises(KeyboardInterrupt):
        run_experiment(searching, tmp_path / "out")
    run_experiment(searching, tmp_path / "out")
    assert steps[1, 0.0, 5] == steps[2, 0.0, 5] == [2]
    assert steps[1, 0.1, 2] == [4]
    assert steps[2, 0.1, 2] == [4, 4]
    assert load_config(settings_file(tmp_path / "out", "b")).train.steps == 4


def test_best_value_at_the_edge_of_the_search_is_named(searching):
    arms = resolve_arms(searching)
    best = [
        replace(arm, config=arm.config.override([f"train.lr={lr}"]))
        for arm, lr in zip(arms, (0.02, 0.03), strict=True)
    ]
    assert edge_warnings(searching, best) == [
        "b: the best train.lr, 0.03, is at the edge of the searched values;"
        " a better one may be outside."
    ]
    assert (
        edge_warnings(replace(searching, search=(("train.schedule", ("linear", "cosine")),)), best)
        == []
    )
