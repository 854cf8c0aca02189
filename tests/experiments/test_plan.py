"""A plan counts the runs and states the detectable effect."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from llm_scratch.experiments.experiment import Arm
from llm_scratch.experiments.plan import estimate_noise, plan_experiment
from llm_scratch.experiments.runner import run_experiment
from llm_scratch.experiments.statistics import detectable_effect

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch):
    """Runs of 10 seconds and a megabyte."""
    plan = SimpleNamespace(seconds=10.0, peak_memory=1 << 20)
    monkeypatch.setattr("llm_scratch.experiments.plan.make_plan", lambda *args: plan)


def test_plan_counts_runs_and_time(experiment, tmp_path, fake_training):
    plan = plan_experiment(experiment, tmp_path / "out")
    assert (plan.n_runs, plan.n_done, plan.n_search, plan.seconds) == (6, 0, 0, 60.0)
    assert plan.peak_memory == 1 << 20
    assert plan.detectable is None
    assert "--pilot" in plan.promise
    searching = replace(experiment, search=(("train.lr", ("0.1", "0.2")),))
    assert plan_experiment(searching).seconds == 60.0 + 40.0
    assert fake_training == []


def test_pilot_runs_are_counted_and_estimate_the_noise(experiment, tmp_path, fake_training):
    run_experiment(experiment, tmp_path / "out", max_seeds=2)
    plan = plan_experiment(experiment, tmp_path / "out")
    assert (plan.n_done, plan.seconds) == (4, 20.0)
    assert plan.noise.n == 2
    assert plan.promise.startswith("3 seeds show a difference of ")
    run_experiment(experiment, tmp_path / "out")
    assert len(fake_training) == 6


def test_noise_is_pooled_over_the_arms_of_an_earlier_experiment(experiment, tmp_path, monkeypatch):
    losses = np.random.default_rng(2).normal(1.0, 0.01, (3, 4))
    arms = tuple(Arm(f"a{i}", (f"train.lr={0.01 * (i + 1)}",)) for i in range(3))
    earlier = replace(experiment, arms=arms, seeds=(1, 2, 3, 4))

    def train(config, folder, **more):
        folder.mkdir(parents=True)
        value = losses[round(config.train.lr * 100) - 1, config.train.seed - 1]
        (folder / "metrics.jsonl").write_text(f'{{"step": 4, "val_bits_per_byte": {value}}}\n')

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    run_experiment(earlier, tmp_path / "earlier")
    noise = estimate_noise(tmp_path / "earlier")
    d = losses[1:] - losses[:1]
    assert noise.sd == pytest.approx(np.sqrt(np.mean(d.var(-1, ddof=1))))
    assert (noise.n, noise.degrees) == (8, 6)
    plan = plan_experiment(experiment, noise_from=tmp_path / "earlier")
    assert plan.detectable == pytest.approx(detectable_effect(noise.sd, 3, 1))
    assert plan.n_needed > 3
