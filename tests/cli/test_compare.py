"""`compare` and `experiment` run, plan and report experiments.

Wrong arguments are errors before anything is trained.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llm_scratch.config import RunConfig

pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replace training: the loss is the learning rate plus noise from the seed.

    Returns the list of seeds.
    """
    trained: list[int] = []

    def train(config: RunConfig, folder: Path, **more: object) -> None:
        cfg = config.train
        trained.append(cfg.seed)
        folder.mkdir(parents=True, exist_ok=True)
        loss = (
            1
            + 10 * cfg.lr
            + 0.001 * np.random.default_rng([cfg.seed, round(1000 * cfg.lr)]).normal()
        )
        rows = [
            {
                "step": step,
                "tokens": 9 * step,
                "val_bits_per_byte": loss - 0.1 * step,
                "elapsed": step,
            }
            for step in (0, 4)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    monkeypatch.setattr("llm_scratch.experiments.runner.train", train)
    monkeypatch.setattr("os.fsync", lambda number: None)
    monkeypatch.setattr("gc.collect", lambda: 0)
    monkeypatch.setattr("llm_scratch.experiments.plan.TIMING_SECONDS", 0.01)
    return trained


def test_compare_prints_the_verdict_and_writes_the_report(llm, trained, fake_training, tmp_path):
    result = llm("compare", trained, "train.lr=0.01", "train.lr=0.02", "--seeds", 3)
    assert result.code == 0, result.err
    assert "seed 1, train.lr=0.01: 0.7" in result.out
    assert "Shown: train.lr=0.02 is worse than train.lr=0.01: 0.1" in result.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("experiment-tiny_run-")
    assert {"report.html", "report.md", "results.json", "experiment.yaml"} <= {
        path.name for path in folder.iterdir()
    }
    before = len(fake_training)
    again = llm("compare", trained, "train.lr=0.01", "train.lr=0.02", "--seeds", 3)
    assert "6 are done already" in again.out
    assert len(fake_training) == before
    report = llm("experiment", "report", folder, "--json")
    assert json.loads(report.out)["comparisons"][0]["verdict"] == "worse"
    refused = llm("experiment", "report", folder, "--metric", "skil:count")
    assert "unknown metric 'skil'; did you mean 'skill'?" in refused.err


def test_experiment_of_a_file_is_the_one_of_compare(llm, trained, fake_training, tmp_path):
    made = json.loads(
        llm("compare", trained, "train.lr=0.01", "train.lr=0.02", "--seeds", 3, "--json").out
    )
    ran = json.loads(
        llm(
            "experiment",
            "run",
            f"{made['folder']}/experiment.yaml",
            "--out",
            tmp_path / "again",
            "--json",
        ).out
    )
    assert ran["comparisons"] == made["comparisons"]


def test_compare_of_an_arm_with_itself_shows_no_difference(llm, trained, fake_training):
    result = llm(
        "compare",
        trained,
        "train.lr=0.01",
        "train.lr=0.01",
        "--seeds",
        3,
        "--smallest-effect",
        1e-6,
    )
    assert "Not shown: no difference between train.lr=0.01 (2) and train.lr=0.01" in result.out
    assert len(set(fake_training)) == 6


def test_plan_trains_nothing_and_a_pilot_two_seeds(llm, trained, fake_training):
    words = ["compare", trained, "train.lr=0.01", "train.lr=0.02", "--seeds", 5, "--plan"]
    result = llm(*words)
    assert result.code == 0, result.err
    assert "10 runs, one after the other" in result.out
    assert fake_training == []
    result = llm(*words, "--pilot")
    assert "5 seeds show a difference of" in result.out
    assert fake_training == [1, 1, 2, 2]


def test_remove_each_names_what_is_removed(llm, trained, fake_training):
    result = llm(
        "compare",
        trained,
        "train.lr=0.01 train.weight_decay=0.3",
        "--remove-each",
        "--seeds",
        2,
        "--json",
    )
    arms = [comparison["arm"] for comparison in json.loads(result.out)["comparisons"]]
    assert arms == ["recipe without train.lr=0.01", "recipe without train.weight_decay=0.3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.lrr=0.01"], "did you mean 'train.lr'"),
        ([], "ARM is missing"),
        (["train.lr=0.01", "--budget", "hours=2"], "tokens, flops, seconds, none"),
        (["train.lr=0.01", "--metric", "bits"], "unknown metric 'bits'"),
        (["train.lr=0.01", "--pilot"], "no effect without --plan"),
        (["train.lr=0.01", "--seeds", "1"], "--seeds: 1 is out of range"),
        (["train.lr=1 model.init=gpt2", "train.lr=2", "--remove-each"], "2 recipes"),
    ],
)
def test_compare_rejects_invalid_arguments_before_the_first_run(
    llm, trained, fake_training, words, message
):
    result = llm("compare", trained, *words)
    assert result.code == 2
    assert message in result.err
    assert fake_training == []


def test_unknown_file_of_an_experiment_is_an_error(llm):
    result = llm("experiment", "run", "nothing.yaml")
    assert (result.code, result.out) == (2, "")
    assert "cannot read nothing.yaml" in result.err
