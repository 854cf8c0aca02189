"""R8: a run resumed from any of its steps ends with the same bits.

It has dropout, micro-batches, two epochs, and rows that hold parts of two documents.
"""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.storage import checkpoint, manifest
from llm_scratch.training.callbacks import Callback
from llm_scratch.training.loop import train

from .conftest import assert_same_run, checkpoint_hashes, last_checkpoint, tiny

pytestmark = pytest.mark.usefixtures("quick")
STEPS = 60


@pytest.fixture
def every_step(tmp_path, corpus, monkeypatch):
    """An uninterrupted run that keeps a checkpoint of each step."""
    monkeypatch.setattr(checkpoint, "MAX_KEPT", STEPS)
    run = train(tiny(save_every=1), tmp_path / "whole", corpus=corpus)
    assert run.steps == run.step == STEPS
    assert len(run.data.train) == STEPS // 2
    return run.folder


def resume_from(step, every_step, run, corpus, stop_at):
    """Resume the run from its checkpoint of `step`, up to the step `stop_at`."""
    name = f"step-{step:08d}"
    shutil.copytree(every_step / "ckpt" / name, run / "ckpt" / name)
    for log in ("metrics.jsonl", "samples.md"):
        shutil.copy(every_step / log, run)
    torch.manual_seed(step)  # the random numbers that the process drew before do not matter
    if stop_at < STEPS:
        stopped(tiny(save_every=1), run, corpus, stop_at)
    else:
        train(tiny(save_every=1), run, corpus=corpus)
        assert_same_run(run, every_step)


def test_r8_run_resumed_from_any_step_ends_with_the_same_bits(
    every_step, corpus, tmp_path, measured
):
    """Each resumed run reaches the checkpoint two steps later, byte for byte.

    That checkpoint is one of those resumed from, so by induction every resumed run ends the same;
    every tenth is still run to its end.
    """
    for step in range(1, STEPS + 1):
        run = tmp_path / str(step)
        stop_at = STEPS if step % 10 == 0 else min(step + 2, STEPS)
        resume_from(step, every_step, run, corpus, stop_at)
        whole = checkpoint_hashes(every_step / "ckpt" / f"step-{stop_at:08d}")
        assert last_checkpoint(run) == whole, f"at step {stop_at}, resumed from step {step}"
        shutil.rmtree(run)
    measured("R8", f"{STEPS} of {STEPS} resumed runs identical", "60 of 60")


class Stops(Callback):
    """Request a stop after a step; 0: never."""

    def __init__(self, step=0):
        self.at, self.warnings = step, []

    def step(self, run, row):
        if run.step == self.at:
            signal.raise_signal(signal.SIGTERM)

    def warn(self, message):
        self.warnings.append(message)


def stopped(config, run, corpus, step):
    with pytest.raises(UserError, match=f"stopped at step {step}"):
        train(config, run, corpus=corpus, callbacks=[Stops(step)])


@pytest.fixture
def threads():
    """Set torch's number of threads, and restore it afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_r8_bfloat16_run_with_two_threads_resumes_with_the_same_bits(
    corpus, tmp_path, threads, measured
):
    """The products of a wider model use both threads."""
    threads(2)
    config = tiny(epochs=None, steps=20, batch_size=16).with_model(emb_dim=96)
    config = replace(config, system=replace(config.system, precision="bfloat16"))
    train(config, tmp_path / "whole", corpus=corpus)
    for step in (3, 17):
        run = tmp_path / str(step)
        stopped(config, run, corpus, step)
        callback = Stops()
        train(config, run, corpus=corpus, callbacks=[callback])
        assert callback.warnings == []
        assert_same_run(run, tmp_path / "whole")
    measured("R8", "bfloat16, 2 threads: 2 of 2 resumed runs identical", "identical")


def test_r8_another_number_of_threads_or_torch_causes_a_warning(
    corpus, tmp_path, threads, measured
):
    threads(2)
    stopped(tiny(), tmp_path / "run", corpus, 7)
    threads(1)
    callback = Stops(9)
    with pytest.raises(UserError, match="stopped at step 9"):
        train(tiny(), tmp_path / "run", corpus=corpus, callbacks=[callback])
    assert callback.warnings == [
        "threads was 2 and is 1:"
        " sums may round differently, so the last bits may differ from now on"
    ]
    change_state(checkpoint.list_checkpoints(tmp_path / "run")[0], {"torch": "2.0.0"})
    callback = Stops()
    train(tiny(), tmp_path / "run", corpus=corpus, callbacks=[callback])
    assert [line.partition(" and ")[0] for line in callback.warnings] == ["torch was 2.0.0"]
    measured(
        "R8",
        "another number of threads, another torch: one warning each, and the run resumes",
        "one warning, resumes",
    )


def change_state(folder, changes):
    """A checkpoint with a changed state and a new manifest."""
    state = json.loads((folder / "state.json").read_text()) | changes
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "manifest.json").unlink()
    manifest.write_manifest(folder, state["step"], {})
