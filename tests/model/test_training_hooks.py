"""Parts of a model add to the gradient and change after a step, unknown to the trainer."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from llm_scratch.model import build
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.model.mixture import Router
from llm_scratch.model.training_hooks import TrainingHooks, set_counted
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.parallel import checkpoint_activations
from llm_scratch.training.step import mean_loss, train_step

SIZES = {"vocab_size": 31, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
IDS = torch.randint(0, 31, (8, 9), generator=torch.Generator().manual_seed(0))
BATCH = IDS[:, :-1], IDS[:, 1:]


def sparse(architecture="qwen_moe", **changes):
    torch.manual_seed(0)
    return build(SIZES | {"architecture": architecture, "balance_loss": 0.3} | changes)


def step(model, batches=(BATCH,), lr=0.0):
    still = torch.optim.SGD(model.parameters(), lr=lr)
    return train_step(ModelWithLoss(model), still, list(batches), None)


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


def halves():
    return zip(*(each.chunk(2) for each in BATCH))


def test_micro_batches_with_a_balancing_loss_equal_one_batch():
    model = sparse()
    whole = step(model)
    want = gradients(model)
    parts = step(model, halves())
    torch.testing.assert_close(parts.loss, whole.loss)
    torch.testing.assert_close(gradients(model), want, rtol=1e-4, atol=1e-6)


def test_loss_of_a_step_is_the_cross_entropy_and_its_gradient_is_more():
    model = sparse()
    assert step(model).loss.item() == pytest.approx(
        next_token_loss(model(BATCH[0]), BATCH[1]).item(), rel=1e-6
    )
    with_balance = gradients(model)
    for part in model.modules():
        if isinstance(part, Router):
            part.routing = part.routing._replace(balance_loss=0.0)
    step(model)
    assert any(not torch.equal(a, b) for a, b in zip(with_balance, gradients(model)))


def test_activation_checkpointing_leaves_the_gradient_and_the_bias_as_they_are():
    plain, twin = (sparse("deepseek", balance_rate=0.5) for _ in range(2))
    checkpoint_activations(twin)
    step(plain, halves())
    step(twin, halves())
    torch.testing.assert_close(gradients(twin), gradients(plain), rtol=1e-5, atol=1e-7)
    biases = [dict(model.named_buffers()) for model in (plain, twin)]
    assert all(torch.equal(biases[0][name], biases[1][name]) for name in biases[0])
    assert any(bias.any() for bias in biases[0].values())
    copied = copy.deepcopy(twin)  # it can be copied: no part keeps a tensor with a gradient
    assert all(torch.equal(a, b) for a, b in zip(copied.parameters(), twin.parameters()))


def test_balancing_leaves_out_padding():
    """A batch with padding has the gradients and biases of the batch without it."""
    short, padded = (sparse("deepseek", balance_rate=0.5) for _ in range(2))
    ids, targets = (each.clone() for each in BATCH)
    ids[:, 5:], targets[:, 5:] = 0, IGNORE
    step(short, [(ids[:, :5], targets[:, :5])])
    step(padded, [(ids, targets)])
    torch.testing.assert_close(gradients(padded), gradients(short), rtol=1e-4, atol=1e-7)
    biases = [dict(model.named_buffers()) for model in (short, padded)]
    assert all(torch.equal(biases[0][name], biases[1][name]) for name in biases[0])
    assert any(bias.any() for bias in biases[0].values())


def test_evaluation_adds_no_balancing_loss_and_moves_no_bias():
    model = sparse("deepseek", balance_rate=0.5)

    class Source:
        def __len__(self):
            return 1

        def batch(self, step, rank=0, world=1):
            return BATCH

    loss = mean_loss(ModelWithLoss(model), Source(), None)
    assert loss == pytest.approx(next_token_loss(model.eval()(BATCH[0]), BATCH[1]).item(), rel=1e-5)
    assert not any(bias.any() for _, bias in model.named_buffers())


def test_targets_are_compared_only_for_parts_that_count_tokens():
    class Comparisons(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += func._schema.name == "aten::ne"
            return func(*args, **(kwargs or {}))

    found = []
    for model in (build(SIZES), sparse()):
        with Comparisons() as comparisons:
            set_counted(model, BATCH[1])
        found.append(comparisons.n)
    assert found == [0, 1]


def test_custom_training_hook_adds_to_the_gradient_and_is_called_after_each_step():
    class Anchor(TrainingHooks):
        """Pull its weight to 3, and count good steps."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.steps = 0

        def forward(self, x):
            if self.training:
                self.extra_loss = (self.weight - 3).square() * x[..., 0].numel()
            return x

        def after_step(self, good, all_reduce_mean):
            self.steps += int(good)

    model = build(SIZES | {"drop_rate": 0.0})
    model.trf_blocks.append(anchor := Anchor())
    model.trf_blocks[-1].forward = lambda x, cache=None: Anchor.forward(anchor, x)
    for _ in range(3):
        step(model, halves(), lr=0.25)
    assert anchor.weight.item() == pytest.approx(3 * (1 - 0.5**3))
    assert anchor.steps == 3
    assert anchor.extra_loss is None
