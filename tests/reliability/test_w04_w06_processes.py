"""W4, W6: a run gives the same result on one process and on several.

It can be resumed with another number of processes.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.checkpoint import load_latest

CLOSE = 1e-5  # relative, for losses of runs that add the same numbers in another order
TINY = GPTConfig(
    vocab_size=60,
    context_length=48,
    emb_dim=16,
    n_heads=2,
    n_layers=2,
    drop_rate=0.0,
    tie_embeddings=True,
    init="gpt2",
)
STORIES = DataConfig(
    source="stories:60", tokenizer="chars", order="documents"
)  # rows and ranks have different numbers of targets
OFTEN = {
    "batch_size": 8,
    "micro_batches": 2,
    "lr": 3e-3,
    "eval_batches": 2,
    "sample_every": 0,
    "log_every": 1,
}


def rows(run: Path, key: str = "loss") -> dict[int, float]:
    """A number of metrics.jsonl, by step."""
    return {row["step"]: row[key] for row in iter_metrics(run / "metrics.jsonl") if key in row}


def furthest(ours: dict[int, float], theirs: dict[int, float]) -> float:
    """The largest relative difference; both have the same steps."""
    assert ours.keys() == theirs.keys()
    return max(abs(ours[step] - theirs[step]) / abs(theirs[step]) for step in ours)


def assert_no_errors(reports: list[dict[str, Any]]) -> None:
    assert [
        one.get("trace", one["error"]) for one in reports if "error" in one
    ] == []  # one that hung on exit was killed
    assert not any(one["wrapped"] for one in reports), (
        "DDP outlived its connections, and may wait for them forever"
    )


def ids_of(reports: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """The batches of all ranks of a run by step, concatenated."""
    return {step: sum((one["ids"][step] for one in reports), []) for step in reports[0]["ids"]}


@pytest.mark.parametrize("steps", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_w4_run_resumes_with_another_number_of_processes(steps, ranks, tmp_path, measured):
    half = steps // 2
    config = RunConfig(
        TINY, STORIES, TrainConfig(steps=steps, eval_every=half, save_every=half, **OFTEN)
    )
    alone = ranks.train(1, config, tmp_path / "alone")
    assert_no_errors(alone)
    ids: dict[str, Any] = {}
    for size, stop_at in ((1, steps // 4), (2, half), (4, half + steps // 4), (1, 0)):
        reports = ranks.train(size, config, tmp_path / "run", stop_at)
        for one in reports:
            assert one.get("code", 0) == (143 if stop_at else 0), one.get("trace")
            assert one["warnings"] == []
        ids |= ids_of(reports)
    assert ids == ids_of(alone)
    reached = furthest(rows(tmp_path / "run"), rows(tmp_path / "alone"))
    assert reached <= CLOSE
    assert (
        furthest(rows(tmp_path / "run", "val_loss"), rows(tmp_path / "alone", "val_loss")) <= CLOSE
    )
    measured(
        "W4",
        f"order identical; loss within {reached:.1e}",
        f"on 1, 2, 4, 1 processes: order identical, loss within {CLOSE:.0e} over {steps} steps",
    )


def test_w4_sharded_run_resumes_sharded_and_on_one_process(ranks, tmp_path, measured):
    """Stop FSDP2 on two processes twice, then finish on one process without sharding."""
    config = RunConfig(TINY, STORIES, TrainConfig(steps=60, eval_every=30, save_every=30, **OFTEN))
    shared = replace(config, system=replace(config.system, parallel="fsdp"))
    assert_no_errors(ranks.train(1, config, tmp_path / "alone"))
    assert_no_errors(ranks.train(2, shared, tmp_path / "shared"))
    for size, way, stop_at in ((2, shared, 20), (2, shared, 40), (1, config, 0)):
        for one in ranks.train(size, way, tmp_path / "run", stop_at):
            assert one.get("code", 0) == (143 if stop_at else 0), one.get("trace")
            assert one["warnings"] == []
    until_40 = {step: loss for step, loss in rows(tmp_path / "shared").items() if step <= 40}
    assert {
        step: loss for step, loss in rows(tmp_path / "run").items() if step <= 40
    } == until_40, "sharded: the same bits"
    reached = furthest(rows(tmp_path / "run"), rows(tmp_path / "alone"))
    assert reached <= CLOSE
    measured(
        "W4",
        f"sharded run stopped and resumed: equal bits; then on one process: within {reached:.1e}",
        f"FSDP2 on 2, resumed on 2, then on one process: loss within {CLOSE:.0e} over 60 steps",
    )


@pytest.mark.parametrize("parallel", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_w4_bfloat16_run_on_two_processes_resumes_with_the_same_bits(
    parallel, ranks, tmp_path, measured
):
    config = RunConfig(
        replace(TINY, drop_rate=0.2),
        STORIES,
        TrainConfig(steps=16, eval_every=16, save_every=16, **OFTEN),
    )
    config = replace(config, system=replace(config.system, parallel=parallel, precision="bfloat16"))
    assert_no_errors(ranks.train(2, config, tmp_path / "whole"))
    assert [one["code"] for one in ranks.train(2, config, tmp_path / "run", stop_at=7)] == [
        143,
        143,
    ]
    assert_no_errors(ranks.train(2, config, tmp_path / "run"))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    a, b = (load_latest(tmp_path / run, pytest.fail) for run in ("run", "whole"))
    assert a.state["precision"] == "bfloat16"
    for kind in ("weights", "optimizer"):
        assert all(t.equal(getattr(b, kind)[name]) for name, t in getattr(a, kind).items())
    measured("W4", f"bfloat16, {parallel}, 2 processes: resumed to the same bits", "identical")


@pytest.fixture(scope="module")
def fifty(ranks, tmp_path_factory):
    """Fifty steps on one process, and with each kind of parallelism."""
    folder = tmp_path_factory.mktemp("w6")
    config = RunConfig(TINY, STORIES, TrainConfig(steps=50, eval_every=25, save_every=25, **OFTEN))
    fsdp, activation_checkpointing = ({"parallel": "fsdp"}, {"activation_checkpointing": True})
    ways = {
        "alone": (1, {}, {}),
        "ddp": (2, {}, {}),
        "fsdp": (2, fsdp, {"sample_every": 50}),  # a sample needs the whole model on one rank
        "ddp, smaller parts": (2, {}, {"micro_batches": 8}),
        "fsdp, smaller parts, recomputed": (
            2,
            fsdp | activation_checkpointing,
            {"micro_batches": 4},
        ),
    }
    for name, (size, system, train) in ways.items():
        changed = replace(
            config, system=replace(config.system, **system), train=replace(config.train, **train)
        )
        assert_no_errors(ranks.train(size, changed, folder / name))
    return folder, list(ways)[1:]


def test_w6_ddp_fsdp_and_one_process_give_the_same_losses(fifty, measured):
    folder, ways = fifty
    alone = {
        key: rows(folder / "alone", key) for key in ("loss", "grad_norm", "val_loss", "tokens")
    }
    reached = 0.0
    for way in ways:
        reached = max(
            reached,
            furthest(rows(folder / way), alone["loss"]),
            furthest(rows(folder / way, "val_loss"), alone["val_loss"]),
        )
        assert furthest(rows(folder / way, "grad_norm"), alone["grad_norm"]) <= 1e-3
        assert rows(folder / way, "tokens") == alone["tokens"]
    assert reached <= CLOSE
    first = {
        way: rows(folder / way)[1] for way in ("alone", "ddp", "fsdp")
    }  # the same rows per micro-batch: the same bits
    assert len(set(first.values())) == 1, first
    measured(
        "W6",
        f"within {reached:.1e}; the first step's loss has the same bits",
        f"DDP, FSDP2, one process, 50 steps: within {CLOSE:.0e}; first loss bit-equal",
    )


def test_w6_checkpoints_are_complete_for_every_parallel_mode(fifty):
    folder, ways = fifty
    want = load_latest(folder / "alone", pytest.fail)
    for way in ways:
        found = load_latest(folder / way, pytest.fail)
        for kind in ("weights", "optimizer"):
            ours, theirs = getattr(found, kind), getattr(want, kind)
            assert {name: t.shape for name, t in ours.items()} == {
                name: t.shape for name, t in theirs.items()
            }
        for name, tensor in found.weights.items():
            assert (tensor - want.weights[name]).norm() <= 1e-3 * want.weights[name].norm(), (
                f"{way}: {name}"
            )
    assert "sample:" not in json.dumps(want.state)
    assert "## Step 50" in (folder / "fsdp" / "samples.md").read_text()


def test_w6_sharded_muon_equals_muon_on_one_process(ranks, tmp_path):
    """Compare the first step, since Muon multiplies whole momentum matrices.

    Products of FSDP2's shards would diverge in the first step.
    """
    config = RunConfig(
        TINY,
        STORIES,
        TrainConfig(steps=10, eval_every=10, save_every=10, optimizer="muon", **OFTEN),
    )
    shared = replace(config, system=replace(config.system, parallel="fsdp"))
    assert_no_errors(ranks.train(1, config, tmp_path / "alone"))
    assert_no_errors(ranks.train(2, shared, tmp_path / "shared"))
    assert furthest(rows(tmp_path / "shared"), rows(tmp_path / "alone")) <= CLOSE


def test_w4_dropout_differs_between_ranks_and_repeats_on_resume(ranks, tmp_path):
    config = RunConfig(
        replace(TINY, drop_rate=0.2),
        STORIES,
        TrainConfig(steps=16, eval_every=16, save_every=16, **OFTEN),
    )
    assert_no_errors(ranks.train(2, config, tmp_path / "whole"))
    stopped = ranks.train(2, config, tmp_path / "run", stop_at=7)
    assert [one["code"] for one in stopped] == [143, 143]
    assert_no_errors(ranks.train(2, config, tmp_path / "run"))
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    a, b = (load_latest(tmp_path / run, pytest.fail) for run in ("run", "whole"))
    assert all(t.equal(b.weights[name]) for name, t in a.weights.items())
    assert a.state["random"] == b.state["random"]


def test_w6_indivisible_batch_is_an_error_before_anything_is_written(ranks, tmp_path):
    config = RunConfig(
        TINY, STORIES, TrainConfig(steps=5, **OFTEN | {"batch_size": 9, "micro_batches": 1})
    )
    for one in ranks.train(2, config, tmp_path / "run"):
        assert (
            one["error"]
            == "batch_size=9 rows cannot be divided evenly among 2 processes; try 8 or 10"
        )
        assert one["code"] == 2
    assert not (tmp_path / "run").exists()
