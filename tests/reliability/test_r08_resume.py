"""R8: from every step of a run, going on ends with the same bits: dropout, micro-batches, two passes, rows that documents share."""

from __future__ import annotations

import shutil

import pytest
import torch

from llm_scratch import checkpoint
from llm_scratch.training.loop import train

from .conftest import assert_same_run, last_checkpoint, tiny

pytestmark = pytest.mark.usefixtures("quick")
STEPS = 60


@pytest.fixture
def every_step(tmp_path, corpus, monkeypatch):
    """An uninterrupted run that keeps a checkpoint of each step."""
    monkeypatch.setattr(checkpoint, "KEEP", STEPS)
    run = train(tiny(save_every=1), tmp_path / "whole", corpus=corpus)
    assert run.steps == run.step == STEPS
    assert len(run.train_loader) == STEPS // 2
    return run.folder


def test_r8_from_every_step_the_run_ends_the_same(every_step, corpus, tmp_path, measured):
    for step in range(1, STEPS + 1):
        run, name = tmp_path / str(step), f"step-{step:08d}"
        shutil.copytree(every_step / "ckpt" / name, run / "ckpt" / name)
        for paper in ("metrics.jsonl", "samples.md"):
            shutil.copy(every_step / paper, run)
        torch.manual_seed(step)  # what the process drew before does not matter
        train(tiny(save_every=1), run, corpus=corpus)
        assert last_checkpoint(run)["model.safetensors"] == last_checkpoint(every_step)["model.safetensors"], f"from step {step}"
        assert last_checkpoint(run)["optim.safetensors"] == last_checkpoint(every_step)["optim.safetensors"], f"from step {step}"
        assert_same_run(run, every_step)
        shutil.rmtree(run)
    measured("R8", f"{STEPS} of {STEPS} resumed runs identical", "60 of 60")
