"""Snapshots: weights of a step in 8 bits, saved by a run if requested."""

import pytest
import torch
from safetensors.torch import save_file

from llm_scratch.architectures import config_class
from llm_scratch.errors import UserError
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.lenses import logit_lens
from llm_scratch.model import build
from llm_scratch.storage.snapshots import (
    list_snapshots,
    load_snapshot,
    save_snapshot,
    snapshot_path,
)


def test_matrix_is_within_half_a_step_of_each_row(tmp_path):
    rows = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    rows *= torch.tensor([1e-6, 1.0, 1e30, 0.0, 1e-30])[:, None]
    path = save_snapshot(tmp_path, 50, {"a": rows, "conv": rows.view(5, 8, 8)})
    loaded = load_snapshot(tmp_path, 50)
    largest = rows.abs().amax(1, keepdim=True)
    assert ((loaded["a"] - rows).abs() <= largest / 254 * (1 + 1e-5)).all()
    assert loaded["conv"].shape == (5, 8, 8)
    assert set(loaded) == {"a", "conv"}
    assert path.stat().st_size < 2 * rows.numel() + 1000


def test_vectors_are_stored_in_float16_and_integers_as_they_are(tmp_path):
    weights = {
        "a": torch.randn(12, generator=torch.Generator().manual_seed(0)),
        "huge": torch.tensor([1e30, -1e30]),
        "n": torch.tensor([7]),
    }
    save_snapshot(tmp_path, 50, weights)
    loaded = load_snapshot(tmp_path, 50)
    assert torch.equal(loaded["a"], weights["a"].half().float())
    assert loaded["huge"].tolist() == [65504, -65504]
    assert loaded["n"].tolist() == [7]


@pytest.mark.parametrize("architecture", ["gpt", "nanochat"])
def test_views_of_a_snapshot_differ_by_a_tenth_at_most(tmp_path, architecture):
    shape = {"vocab_size": 64, "context_length": 32, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    torch.manual_seed(0)
    model = build(config_class(architecture)(**shape)).eval()
    for weight in model.parameters():  # heads and predictions about as sharp as trained ones
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.7 if weight is model.out_head.weight else 0.3)
    ids = torch.randint(64, (8, 32), generator=torch.Generator().manual_seed(1))
    exact = views(model, ids)
    assert exact["prediction"].amax(-1).mean() > 0.4
    save_snapshot(tmp_path, 50, model.state_dict())
    model.load_state_dict(load_snapshot(tmp_path, 50))
    for name, value in views(model, ids).items():
        difference = (value - exact[name]).abs()
        assert 0 < difference.max() < 0.1, name
        assert difference.mean() < 0.003, name


def views(model, ids):
    """The values of the film: attention of each head, probabilities, and those of the lens."""
    with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
        prediction = model(ids).softmax(-1)
    lens = logit_lens(model, ids).softmax(-1)
    return {"attention": torch.stack(list(acts.values())), "prediction": prediction, "lens": lens}


def test_snapshots_of_older_runs_in_float16_are_read(tmp_path):
    weights = {"a": torch.randn(3, 4).half(), "n": torch.tensor([7])}
    path = snapshot_path(tmp_path, 20)
    path.parent.mkdir()
    save_file(weights, path)
    loaded = load_snapshot(tmp_path, 20)
    assert loaded["a"].dtype == torch.float32
    assert torch.equal(loaded["a"].half(), weights["a"])


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
    scales = {"a": torch.zeros(2, 4, dtype=torch.int8), "a.row_scale": torch.ones(3, 1)}
    save_file(scales, snapshot_path(tmp_path, 20))
    with pytest.raises(UserError, match="is damaged"):
        load_snapshot(tmp_path, 20)
