"""The muP arm: rules of the `mup` package, and updates whose size does not depend on the width."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.training.optim import OPTIMIZERS

ARM = Path(__file__).parents[2] / "experiments" / "arms" / "mup.py"


@pytest.fixture(autouse=True)
def registered():
    """The arm's architecture and optimizer, for this test alone."""
    before = dict(ARCHITECTURES), dict(OPTIMIZERS)
    run_user_file(ARM, str(ARM))
    yield
    for table, old in zip((ARCHITECTURES, OPTIMIZERS), before, strict=True):
        table.clear()
        table.update(old)


def settings(width: int, architecture: str = "mup-gpt") -> dict[str, object]:
    return {
        "architecture": architecture,
        "vocab_size": 40,
        "context_length": 16,
        "emb_dim": width,
        "n_heads": 2,
        "n_layers": 2,
        "drop_rate": 0.0,
        "init": "gpt2",
        "tie_embeddings": True,
    }


def made(width: int, architecture: str = "mup-gpt") -> torch.nn.Module:
    torch.manual_seed(0)
    return build(ARCHITECTURES[architecture].config.of(settings(width, architecture)))


def test_model_of_the_base_width_is_the_ordinary_gpt():
    ids = torch.randint(0, 40, (2, 9), generator=torch.Generator().manual_seed(1))
    ours, plain = made(64), made(64, "gpt")
    assert isinstance(plain, GPTModel)
    torch.testing.assert_close(ours(ids), plain(ids))


@pytest.mark.parametrize("factor", [0.5, 4])
def test_groups_scale_as_the_rules_say(factor):
    model = made(int(64 * factor))
    groups = OPTIMIZERS["mup-adamw"](model, TrainConfig(lr=0.1, weight_decay=0.2)).param_groups
    inside, matrices, rest = groups
    assert inside["lr_scale"] * factor == 1
    assert inside["weight_decay"] == pytest.approx(0.2 * factor)
    assert ("lr_scale" in matrices, matrices["weight_decay"]) == (False, 0.2)
    assert rest["weight_decay"] == 0
    assert {p.ndim for p in inside["params"]} == {2}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_scores_are_divided_by_the_size_of_a_head_also_when_packed():
    """Twice the usual sqrt(D) at 4 times the base width: sqrt(4) more."""
    from llm_scratch.interpretability.capture import capture
    from llm_scratch.model.packed import pack

    model = made(256).eval()
    ids = torch.randint(0, 40, (1, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), capture(model, "blocks.0.attn.*") as acts:
        logits = model(ids)
    scores = acts["blocks.0.attn.hook_attn_scores"][0, 0, 5, 3]
    q, k = (acts[f"blocks.0.attn.hook_{name}"][0] for name in "qk")
    torch.testing.assert_close(scores, q[5, 0] @ k[3, 0] / 128**0.5 / 2)
    with torch.no_grad():
        torch.testing.assert_close(pack(model)(ids), logits, rtol=1e-4, atol=1e-5)
