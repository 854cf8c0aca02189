"""The chunked loss has the value and the gradients of the plain one.

It never holds all logits.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from llm_scratch.model import chunked_loss as module
from llm_scratch.model.chunked_loss import head_loss, total_loss
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.loss import IGNORE, next_token_loss

CFG = {
    "vocab_size": 37,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.0,
}


def inputs(B=3, T=5, C=12, V=37, dtype=torch.float64):
    torch.manual_seed(0)
    x = torch.randn(B, T, C, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, C, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, V, (B, T))
    targets[0, 2:] = IGNORE
    return x, weight, targets


@pytest.mark.parametrize("rows", [1, 4, 15, 100], ids="{} rows a piece".format)
def test_chunked_loss_and_its_gradients_equal_the_plain_ones(rows, monkeypatch):
    x, weight, targets = inputs()
    monkeypatch.setitem(module.MAX_LOGITS, "cpu", rows * len(weight))
    want = next_token_loss(x @ weight.T, targets, "sum").double()
    ours = head_loss(x, weight, targets)
    torch.testing.assert_close(ours.double(), want, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(0.25 * want, (x, weight))
    gained = torch.autograd.grad(0.25 * ours, (x, weight))
    torch.testing.assert_close(gained, wanted, rtol=1e-5, atol=1e-6)
    assert not gained[0][targets == IGNORE].any()


def test_only_masked_targets_give_zero_loss_and_gradient():
    x, weight, targets = inputs()
    loss = head_loss(x, weight, torch.full_like(targets, IGNORE))
    assert loss == 0
    assert not any(g.any() for g in torch.autograd.grad(loss, (x, weight)))


def test_logits_that_overflow_an_exponential_have_a_finite_loss():
    x, weight, targets = inputs(dtype=torch.float32)
    big = (1000 * x.detach()).requires_grad_()
    loss = head_loss(big, weight, targets)
    torch.testing.assert_close(loss, next_token_loss(big @ weight.T, targets, "sum"))
    assert torch.autograd.grad(loss, big)[0].isfinite().all()


@pytest.mark.parametrize("tied", [False, True])
def test_chunked_loss_trains_the_model_equally(tied):
    torch.manual_seed(1)
    model = GPTModel(CFG | {"tie_embeddings": tied})
    ids, targets = torch.randint(0, 37, (2, 8)), torch.randint(0, 37, (2, 8))
    total_loss(model, ids, targets).backward()
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    next_token_loss(model(ids), targets, "sum").backward()
    torch.testing.assert_close(ours, [p.grad for p in model.parameters()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 100])
def test_bfloat16_loss_is_as_accurate_as_the_plain_one(rows, monkeypatch):
    x, weight, targets = inputs(B=8, T=16, C=64, V=300, dtype=torch.float32)
    monkeypatch.setitem(module.MAX_LOGITS, "cpu", rows * len(weight))
    exact = torch.autograd.grad(
        next_token_loss(x.double() @ weight.double().T, targets, "sum"), (x, weight)
    )
    with torch.autocast("cpu", torch.bfloat16):
        ours = torch.autograd.grad(head_loss(x, weight, targets), (x, weight))
        plain = torch.autograd.grad(
            next_token_loss(nn.functional.linear(x, weight), targets, "sum"), (x, weight)
        )
    for mine, theirs, right in zip(ours, plain, exact):
        assert (mine - right).norm() <= 1.1 * (theirs - right).norm()
        assert (mine - right).norm() < 0.02 * right.norm()


def test_value_without_gradients_equals_the_plain_loss():
    x, weight, targets = inputs()
    with torch.no_grad():
        loss = head_loss(x, weight, targets)
        torch.testing.assert_close(
            loss.double(), next_token_loss(x @ weight.T, targets, "sum").double()
        )
    assert not loss.requires_grad


def test_model_without_hidden_uses_the_plain_loss():
    """Without `hidden`, or with a head bias, the loss is computed from the logits."""
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    ids, targets = torch.randint(0, 9, (2, 5)), torch.randint(0, 9, (2, 5))
    torch.testing.assert_close(
        total_loss(plain, ids, targets), next_token_loss(plain(ids), targets, "sum")
    )
    model = GPTModel(CFG)
    model.out_head = nn.Linear(12, 37, bias=True)
    ids = torch.randint(0, 37, (2, 8))
    torch.testing.assert_close(total_loss(model, ids, ids), next_token_loss(model(ids), ids, "sum"))


def test_chunked_loss_allocates_no_tensor_larger_than_a_chunk(monkeypatch):
    x, weight, targets = inputs(B=16, T=16, C=4, V=1000, dtype=torch.float32)
    monkeypatch.setitem(module.MAX_LOGITS, "cpu", 8 * len(weight))
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with Watch():
        head_loss(x, weight, targets).backward()
    assert largest == 8 * len(weight)


def test_gradient_of_the_logits_is_cast_to_bfloat16_once():
    """Under autocast each of the two products that use the gradient would cast it again.

    It is the largest tensor of a step.
    """
    casts = []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and out.dtype == torch.bfloat16:
                casts.append(sorted(out.shape))
            return out

    x, weight, targets = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), Casts():
        head_loss(x, weight, targets)
    assert casts.count([15, 37]) == 1
