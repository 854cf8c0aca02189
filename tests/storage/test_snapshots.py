"""Snapshots: weights of a step in float16, taken by a run that is told to."""

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.storage.snapshots import (
    list_snapshots,
    load_snapshot,
    save_snapshot,
    snapshot_path,
)


def test_snapshot_is_the_weights_in_float16(tmp_path):
    weights = {
        "a": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "huge": torch.tensor([1e30, -1e30]),
        "n": torch.tensor([7]),
    }
    save_snapshot(tmp_path, 50, weights)
    loaded = load_snapshot(tmp_path, 50)
    assert torch.equal(loaded["a"], weights["a"].half().float())
    assert loaded["huge"].tolist() == [65504, -65504]
    assert loaded["n"].tolist() == [7]


def test_snapshots_are_listed_in_order(tmp_path):
    assert list_snapshots(tmp_path) == []
    for step in (100, 0, 20):
        save_snapshot(tmp_path, step, {"a": torch.zeros(1)})
    (tmp_path / "snapshots" / "step-x.safetensors").touch()
    assert list_snapshots(tmp_path) == [0, 20, 100]


def test_missing_and_damaged_snapshots_are_errors(tmp_path):
    save_snapshot(tmp_path, 20, {"a": torch.zeros(1)})
    with pytest.raises(UserError, match="no snapshot of step 30; it has: 20"):
        load_snapshot(tmp_path, 30)
    snapshot_path(tmp_path, 20).write_bytes(b"x")
    with pytest.raises(UserError, match="is damaged"):
        load_snapshot(tmp_path, 20)
