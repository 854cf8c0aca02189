"""An experiment runs seed by seed, continues where it was killed, and counts every run once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.errors import DIVERGED, INTERRUPTED, RESOURCES, UserError
from llm_scratch.experiments.arms import Corpora, resolve_arms
from llm_scratch.experiments.experiment import Arm, Budget, dump_experiment
from llm_scratch.experiments.metrics import METRICS, Metric
from llm_scratch.experiments.results import FILE, TIME_FIELDS, read_results
from llm_scratch.experiments.run_folders import folder_name
from llm_scratch.experiments.runner import ExperimentCallback, load_experiment, run_experiment

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


def outcome(folder: Path) -> list[dict[str, object]]:
    """The results without the fields of time."""
    rows = json.loads((folder / FILE).read_text(encoding="utf-8"))["runs"]
    return [{key: value for key, value in row.items() if key not in TIME_FIELDS} for row in rows]


def test_runner_trains_all_arms_of_a_seed_before_the_next_seed(experiment, tmp_path, fake_training):
    comparisons = run_experiment(experiment, tmp_path / "out")
    assert [seed for _, seed in fake_training] == [1, 1, 2, 2, 3, 3]
    assert [rate for rate, _ in fake_training] == [0.001, 0.01, 0.01, 0.001, 0.001, 0.01]
    assert comparisons[0].verdict == "worse"
    assert load_experiment(tmp_path / "out") == experiment


@pytest.mark.parametrize("done", range(7))
def test_experiment_stopped_anywhere_continues_by_the_same_call(
    experiment, tmp_path, fake_training, done
):
    class Stop(ExperimentCallback):
        left = done

        def run_started(self, arm, seed):
            if not self.left:
                raise UserError("stopped", INTERRUPTED)
            self.left -= 1
            return super().run_started(arm, seed)

    run_experiment(experiment, tmp_path / "whole")
    if done < 6:
        with pytest.raises(UserError, match="stopped"):
            run_experiment(experiment, tmp_path / "out", callback=Stop())
    before = len(fake_training)
    run_experiment(experiment, tmp_path / "out")
    assert len(fake_training) - before == (6 - done if done < 6 else 6)
    assert (tmp_path / "out" / FILE).read_text() == (tmp_path / "whole" / FILE).read_text()


KILLED = """
import os, sys
from llm_scratch.experiments.experiment import read_experiment
from llm_scratch.experiments.runner import run_experiment
from llm_scratch.training import loop

loop.environment = lambda device: {"matrix_rate": 1e9}
experiment = read_experiment(sys.argv[1])
for start in sys.argv[2:]:
    folder, _, fault = start.partition("?")
    child = os.fork()
    if not child:
        os.environ["LLM_SCRATCH_FAULT"] = fault
        run_experiment(experiment, folder)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows does not have")
def test_experiment_killed_twice_equals_an_uninterrupted_one(experiment, tmp_path):
    """Kill with SIGKILL inside a save: in the first run, then, after it resumed, in a later one."""
    (tmp_path / "e.yaml").write_text(
        dump_experiment(replace(experiment, seeds=(1, 2))), encoding="utf-8"
    )
    starts = ["out?save:4:kill", "out?save:2:kill", "out", "whole"]
    words = [sys.executable, "-c", KILLED, "e.yaml", *starts]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert done.stdout.split() == ["-9", "-9", "0", "0"]
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")
    assert len(outcome(tmp_path / "out")) == 4


@pytest.mark.parametrize(("code", "state"), [(DIVERGED, "diverged"), (3, "failed")])
def test_failed_run_is_recorded_as_a_result(experiment, tmp_path, monkeypatch, code, state):
    def train(config, folder, **more):
        raise UserError("it went wrong", code)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    comparisons = run_experiment(experiment, tmp_path / "out")
    results = read_results(tmp_path / "out")
    assert {(result.state, result.reason) for result in results} == {(state, "it went wrong")}
    assert len(results) == 6
    assert comparisons[0].verdict == "failures"


def test_failed_run_is_tried_again_and_a_diverged_one_is_not(
    experiment, tmp_path, monkeypatch, fake_training
):
    from llm_scratch.experiments import runner

    fake = runner.train
    broken = {(0.01, 2): UserError("too large", DIVERGED), (0.01, 3): RuntimeError("a bug")}

    def train(config, folder, **more):
        error = broken.get((config.train.lr, config.train.seed))
        if error is not None:
            raise error
        fake(config, folder)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    run_experiment(experiment, tmp_path / "out")
    assert [result.state for result in read_results(tmp_path / "out")].count("failed") == 1
    broken.clear()
    before = len(fake_training)
    run_experiment(experiment, tmp_path / "out")
    assert fake_training[before:] == [(0.01, 3)]
    assert [result.state for result in read_results(tmp_path / "out")].count("diverged") == 1


def test_full_disk_stops_the_experiment_and_is_no_result(experiment, tmp_path, monkeypatch):
    def train(config, folder, **more):
        raise UserError("the disk is full", RESOURCES)

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    with pytest.raises(UserError, match="disk is full"):
        run_experiment(experiment, tmp_path / "out")
    assert not (tmp_path / "out" / FILE).exists()


def test_other_experiment_in_the_folder_is_an_error(experiment, tmp_path, fake_training):
    run_experiment(experiment, tmp_path / "out")
    with pytest.raises(UserError, match="holds another experiment"):
        run_experiment(replace(experiment, seeds=(1, 2, 3, 4)), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        run_experiment(experiment, tmp_path / "other")


def test_early_stop_ends_once_every_arm_has_a_verdict(experiment, tmp_path, fake_training):
    long = replace(
        experiment,
        arms=(Arm("slow", ("train.lr=0.001",)), Arm("fast", ("train.lr=0.9",))),
        seeds=tuple(range(1, 9)),
    )
    run_experiment(replace(long, stop_early=True), tmp_path / "early")
    assert 3 <= len(fake_training) / 2 < 8
    before = len(fake_training)
    run_experiment(replace(long, stop_early=True), tmp_path / "early")
    assert len(fake_training) == before
    run_experiment(long, tmp_path / "whole")
    assert len(fake_training) == before + 16


def test_metric_that_is_not_reached_is_a_failed_run(
    experiment, tmp_path, monkeypatch, fake_training
):
    monkeypatch.setitem(
        METRICS,
        "never",
        lambda argument: Metric("seconds to nowhere", lambda run: None, smallest_effect=1.0),
    )
    run_experiment(replace(experiment, metric="never"), tmp_path / "out")
    assert {result.reason for result in read_results(tmp_path / "out")} == {
        "the run has no seconds to nowhere"
    }


def test_metric_without_a_smallest_effect_needs_one(experiment, tmp_path, fake_training):
    with pytest.raises(UserError, match="set smallest_effect"):
        run_experiment(replace(experiment, metric="seconds_to_loss:1"), tmp_path / "out")
    assert fake_training == []


def test_budget_in_seconds_is_measured_once(experiment, tmp_path, monkeypatch, fake_training):
    measured = iter([[1.0, 2.0], [2.0, 1.0]])
    monkeypatch.setattr(
        "llm_scratch.experiments.arms.step_seconds", lambda configs, device: next(measured)
    )
    timed = replace(experiment, budget=Budget("seconds", 8.0))
    run_experiment(timed, tmp_path / "out", max_seeds=1)
    run_experiment(timed, tmp_path / "out")
    steps = {(result.arm, result.steps) for result in read_results(tmp_path / "out")}
    assert steps == {("slow", 8), ("fast", 4)}


def test_real_run_is_the_one_of_train(experiment, tmp_path):
    """The same settings trained alone give the same loss."""
    from llm_scratch.training.loop import train

    run_experiment(experiment, tmp_path / "out", max_seeds=1)
    arm = resolve_arms(experiment)[1]
    run = train(arm.run_config(1), tmp_path / "alone", corpus=Corpora().of(arm.config))
    assert read_results(tmp_path / "out")[1].value == run.last_eval["val_bits_per_byte"]


def test_run_folder_names_are_safe():
    assert folder_name("train.lr=0.01 model/x: [a, b]") == "train.lr=0.01_model_x_a_b"
    assert folder_name("../..") == "arm"
    long = "train.prompt=" + 90 * "a"
    assert folder_name(f"{long} train.lr=1") != folder_name(f"{long} train.lr=2")
    assert len(folder_name(long)) == 80


@pytest.mark.parametrize("other", ["A<b", "a>b"])
def test_arms_that_would_share_a_folder_are_an_error(experiment, tmp_path, fake_training, other):
    arms = (replace(experiment.arms[0], name="a<b"), replace(experiment.arms[1], name=other))
    with pytest.raises(UserError, match="would share the folder"):
        run_experiment(replace(experiment, arms=arms), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not fake_training
