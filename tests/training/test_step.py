"""One step: micro-batches equal one batch, and a non-finite gradient changes no weight."""

import numpy as np
import pytest
import torch

from llm_scratch.config import TrainConfig
from llm_scratch.data.loader import TokenLoader
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.step import mean_loss, train_step


def model_and_batch(rows=8):
    torch.manual_seed(0)
    model = GPTModel(
        {
            "vocab_size": 20,
            "context_length": 8,
            "emb_dim": 12,
            "n_heads": 3,
            "n_layers": 2,
            "drop_rate": 0.0,
        }
    )
    return model, torch.randint(0, 20, (rows, 8)), torch.randint(0, 20, (rows, 8))


@pytest.mark.parametrize("ragged", [False, True], ids=["all targets", "ragged"])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_micro_batches_equal_one_batch(parts, ragged):
    model, inputs, targets = model_and_batch()
    if (
        ragged
    ):  # rows have different numbers of targets, one row none: a mean of means would be wrong
        targets = targets.masked_fill(torch.arange(8) < torch.arange(8)[:, None] + 1, IGNORE)
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    loss, norm, tokens, _ = train_step(ModelWithLoss(model), still, [(inputs, targets)], None)
    want = [p.grad.clone() for p in model.parameters()]
    torch.testing.assert_close(loss, next_token_loss(model(inputs), targets).detach())
    sums, lengths, *_ = train_step(
        ModelWithLoss(model), still, list(zip(inputs.chunk(parts), targets.chunk(parts))), None
    )
    torch.testing.assert_close((sums, lengths), (loss, norm), rtol=1e-5, atol=1e-6)
    assert tokens == (targets != IGNORE).sum()
    torch.testing.assert_close([p.grad for p in model.parameters()], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grad_clip", [None, 1e-3, 1e3])
def test_gradient_norm_is_measured_and_clipped(grad_clip):
    model, inputs, targets = model_and_batch()
    _, norm, *_ = train_step(
        ModelWithLoss(model),
        torch.optim.SGD(model.parameters(), lr=0.0),
        [(inputs, targets)],
        grad_clip,
    )
    after = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    torch.testing.assert_close(
        after, norm if grad_clip != 1e-3 else torch.tensor(1e-3), rtol=1e-3, atol=1e-8
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_non_finite_gradient_changes_no_weight(poison):
    model, inputs, targets = model_and_batch()
    model.out_head.weight.register_hook(lambda grad: grad.index_fill(0, torch.tensor(3), poison))
    before = [p.detach().clone() for p in model.parameters()]
    _, norm, *_ = train_step(
        ModelWithLoss(model), OPTIMIZERS["adamw"](model, TrainConfig()), [(inputs, targets)], 1.0
    )
    assert not torch.isfinite(norm)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


def test_non_finite_gradient_on_another_rank_changes_no_local_weight():
    """Averaged gradients are equal everywhere, so a later fault of one rank must reach all."""

    class Fault(Distributed):
        def all_reduce_mean(self, x):
            return x * float("nan") if x.is_floating_point() and torch.isclose(x, want) else x

    model, inputs, targets = model_and_batch()
    _, want, _, good = train_step(
        ModelWithLoss(model), torch.optim.SGD(model.parameters(), lr=0.0), [(inputs, targets)], None
    )
    assert good
    before = [p.detach().clone() for p in model.parameters()]
    assert not train_step(
        ModelWithLoss(model),
        OPTIMIZERS["adamw"](model, TrainConfig()),
        [(inputs, targets)],
        None,
        distributed=Fault(),
    ).good
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before))


@pytest.mark.parametrize("tokens", [25, 33, 40, 41])
def test_validation_loss_is_the_mean_over_every_window(tokens):
    """Use one to five windows in batches of 4 and 2: a short batch has its share."""
    model, _, _ = model_and_batch()
    ids = np.random.default_rng(0).integers(0, 20, tokens)
    starts = range(0, tokens - 8, 8)
    x, y = (
        torch.tensor(np.array([ids[s + shift : s + shift + 8] for s in starts])) for shift in (0, 1)
    )
    want = next_token_loss(model(x), y).item()
    for batch_size in (2, 4):
        loader = TokenLoader(ids, 8, batch_size, order="sequential")
        assert mean_loss(ModelWithLoss(model), loader, len(loader)) == pytest.approx(want, rel=1e-6)
