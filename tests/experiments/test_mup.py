"""The muP arm: rules of the `mup` package, and updates whose size does not depend on the width."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llm_scratch.config import RunConfig, TrainConfig, from_dict
from llm_scratch.errors import UserError
from llm_scratch.model import ARCHITECTURES, build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage.user_code import run_user_file
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.validate import validate

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
def test_mup_groups_scale_by_the_published_rules(factor):
    model = made(int(64 * factor))
    groups = OPTIMIZERS["mup-adamw"](model, TrainConfig(lr=0.1, weight_decay=0.2)).param_groups
    inside, matrices, rest = groups
    assert inside["lr_scale"] * factor == 1
    assert inside["weight_decay"] == pytest.approx(0.2 * factor)
    assert ("lr_scale" in matrices, matrices["weight_decay"]) == (False, 0.2)
    assert rest["weight_decay"] == 0
    assert {p.ndim for p in inside["params"]} == {2}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_attention_scores_are_divided_by_the_head_size_also_when_packed():
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


def test_groups_and_first_weights_are_those_of_the_mup_package():
    """Rate, weight decay and initial deviation of each parameter, by Microsoft's own rules."""
    mup = pytest.importorskip("mup", reason="needs mup (pip install mup)")
    model, lr, decay = made(256), 0.1, 0.2
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    mup.set_base_shapes(model, made(64), delta=made(128), rescale_params=False, do_assert=False)

    def by_name(optimizer: torch.optim.Optimizer) -> dict[tuple[str, str], float]:
        values = {}
        for group in optimizer.param_groups:
            for name in (names[id(parameter)] for parameter in group["params"]):
                values[name, "rate"] = group["lr"] * group.get("lr_scale", 1)
                values[name, "weight decay"] = group["weight_decay"]
        return values

    decayed = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    theirs = by_name(mup.MuAdamW(groups, lr=lr))
    ours = by_name(OPTIMIZERS["mup-adamw"](model, TrainConfig(lr=lr, weight_decay=decay)))
    assert ours == pytest.approx(theirs)
    assert len(ours) == 2 * len(names)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            is_last = name.endswith(("out_proj.weight", "layers.2.weight"))
            expected = torch.empty_like(parameter)
            expected.infshape = parameter.infshape
            mup.init.normal_(expected, std=0.02 / (2 * 2) ** 0.5 if is_last else 0.02)
            assert float(parameter.detach().std()) == pytest.approx(
                float(expected.std()), rel=0.06
            ), name
    readout = mup.MuSharedReadout(model.tok_emb.weight, bias=False)
    x = torch.randn(3, 256)
    assert torch.allclose(readout(x), model.out_head(x / model.width_factor), atol=1e-6)


def test_optimizer_is_accepted_with_its_model_and_rejected_with_another():
    tokens = {"source": "verdict"}
    train = {"optimizer": "mup-adamw"}
    config = from_dict(RunConfig, {"model": settings(128), "data": tokens, "train": train})
    validate(config)
    with pytest.raises(UserError, match="mup-adamw: .* architecture 'mup-gpt'"):
        validate(config.with_model(architecture="gpt"))
