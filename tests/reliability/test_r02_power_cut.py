"""R2, R10: after a power cut during a save, the old checkpoint or the new one loads.

This holds for every subset of the writes that may not have reached the disk.

It has the rows and samples of all steps up to the checkpoint.
"""

from __future__ import annotations

import os
import shutil
from itertools import islice

import pytest
import torch

from llm_scratch.storage import checkpoint, files, manifest
from llm_scratch.storage.files import atomic_write
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train
from llm_scratch.training.run_logger import RunLogger

from .conftest import learned_rows, tiny
from .simulated_disk import RecordingDisk, crash_states, read_tree, without_flushes, write_tree

OLDEST, OLD, NEW = 10, 20, 30


def tensors(step):
    generator = torch.Generator().manual_seed(step)
    return {
        "weight": torch.randn(120, 96, generator=generator),
        "bias": torch.randn(120, generator=generator),
    }


def save(run, step):
    moments = {f"{name}/exp_avg": tensor for name, tensor in tensors(step + 1).items()}
    config, state = {"model": {"emb_dim": 96}}, {"step": step, "tokens": 7 * step}
    checkpoint.save(
        run,
        step,
        config,
        tensors(step),
        moments,
        state,
        lambda folder: atomic_write(folder / "tokenizer.json", "{}"),
        best=True,
    )


def equal(found, step):
    """Assert that every bit of a checkpoint is as saved at that step."""
    moments = {f"{name}/exp_avg": tensor for name, tensor in tensors(step + 1).items()}
    pairs = [(found.weights, tensors(step)), (found.optimizer, moments)]
    same = all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )
    return (
        same
        and found.state == {"step": step, "tokens": 7 * step}
        and found.config == {"model": {"emb_dim": 96}}
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the files before a third save, and its operations, including a removal."""
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        for step in (OLDEST, OLD):
            save(run, step)
        before = read_tree(run)
        disk = RecordingDisk(run)
        patch.setattr(files, "filesystem", disk)
        save(run, NEW)
    return before, disk.ops


@pytest.fixture(scope="module")
def outcomes(recorded, tmp_path_factory):
    """Return (state, loaded step, number of complete checkpoints) for every state.

    States with equal files are tried once.
    """
    seen, found, crashed = set(), [], tmp_path_factory.mktemp("crashed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: None)
        for name, tree in crash_states(*recorded):
            key = hash(tuple(sorted(tree.items(), key=lambda item: item[0])))
            if key in seen:
                continue
            seen.add(key)
            run = crashed / str(len(found))
            write_tree(run, tree)
            whole = sum(
                manifest.verify(folder) is None for folder in checkpoint.list_checkpoints(run)
            )
            loaded = checkpoint.load_latest(run, lambda message: None, prefer="latest")
            assert loaded is not None, name
            assert loaded.state["step"] in (OLD, NEW), name
            assert equal(loaded, loaded.state["step"]), f"garbage was loaded: {name}"
            found.append((name, loaded.state["step"], whole))
            shutil.rmtree(run)
    return found


def test_simulated_disk_records_the_whole_save(recorded):
    _, ops = recorded
    kinds = [op.kind for op in ops]
    renamed = [op.new for op in ops].index("ckpt/step-00000030")
    assert "unlink" not in kinds[: kinds.index("flush", renamed)], (
        "a file was removed before the new one existed"
    )
    assert (
        sum(op.kind == "unlink" and "step-00000010" in op.path for op in ops) == 7
    )  # six files and their folder


def test_r2_old_or_new_checkpoint_loads_after_a_power_cut(outcomes, measured):
    steps = {step for _, step, _ in outcomes}
    assert steps == {OLD, NEW}
    assert len(outcomes) > 500
    measured(
        "R2",
        f"{len(outcomes)} of {len(outcomes)} states load the old or the new checkpoint",
        "more than 500 states, all load the old or the new checkpoint",
    )


def test_r10_complete_checkpoint_exists_at_every_moment(outcomes, measured):
    fewest = min(whole for _, _, whole in outcomes)
    assert fewest >= checkpoint.MAX_KEPT
    measured(
        "R10",
        f"at least {fewest} complete checkpoints in each of {len(outcomes)} states",
        "at least 1 at every crash point",
    )


def loaded_after(before, ops, folder, every=1):
    """Return the steps that load after a power cut at the end, with only flushed data kept."""
    steps = set()
    for number, (_, tree) in enumerate(
        islice(crash_states(before, ops, since=len(ops)), 0, None, every)
    ):
        write_tree(folder / str(number), tree)
        steps.add(
            checkpoint.load_latest(
                folder / str(number), lambda message: None, prefer="latest"
            ).state["step"]
        )
    return steps


def test_completed_save_survives_a_power_cut(recorded, tmp_path):
    before, ops = recorded
    assert loaded_after(before, ops, tmp_path) == {NEW}


def test_simulated_disk_detects_a_missing_flush(recorded, tmp_path):
    before, ops = recorded
    assert loaded_after(before, without_flushes(ops), tmp_path, every=101) >= {OLD}


class Recorder(Callback):
    """Let a run write to a recording disk from step 21 on."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch

    def step(self, run, row):
        if run.step == OLD + 1:
            self.before, self.disk = read_tree(run.folder), RecordingDisk(run.folder)
            self.monkeypatch.setattr(files, "filesystem", self.disk)


def holes_after_power_cuts(corpus, folder, monkeypatch, every):
    """Return the number of states, and those whose checkpoint is ahead of its log files.

    The states are those of the steps to 30 and of the save there.
    """
    callback = Recorder(monkeypatch)
    train(
        tiny(epochs=None, steps=NEW, sample_every=10),
        folder / "run",
        corpus=corpus,
        callbacks=[callback],
    )
    monkeypatch.setattr(files, "filesystem", files.FileSystem())
    states = {
        tuple(tree.items()): name for name, tree in crash_states(callback.before, callback.disk.ops)
    }
    holes = []
    tried = list(islice(states.items(), 0, None, every))
    for number, (tree, name) in enumerate(tried):
        run = folder / str(number)
        write_tree(run, dict(tree))
        step = checkpoint.load_latest(run, lambda message: None, prefer="latest").state["step"]
        rows = {row["step"] for row in learned_rows(run) if "loss" in row}
        if not rows >= {*range(1, step + 1)} or f"## Step {step}," not in (
            run / "samples.md"
        ).read_text(errors="replace"):
            holes.append(name)
        shutil.rmtree(run)
    return len(tried), holes


@pytest.mark.usefixtures("quick")
def test_r2_no_checkpoint_is_ahead_of_its_metrics(corpus, tmp_path, monkeypatch, measured):
    states, holes = holes_after_power_cuts(corpus, tmp_path, monkeypatch, every=9)
    assert states > 500
    assert holes == []
    measured(
        "R2",
        f"no row or sample is missing in {states} of {states} states of a run",
        "metrics without gaps",
    )


@pytest.mark.usefixtures("quick")
def test_simulated_disk_detects_unflushed_rows(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(RunLogger, "flush", lambda self: None)
    assert holes_after_power_cuts(corpus, tmp_path, monkeypatch, every=90)[1]
