"""Attention in blocks of queries equals the formula: values, gradients, dropout."""

import pytest
import torch

from llm_scratch.model import attention, build
from llm_scratch.model import blocked_attention as module
from llm_scratch.model.attention import attention_weights
from llm_scratch.model.blocked_attention import blocked_attention, blocks
from llm_scratch.training.model_with_loss import ModelWithLoss


def inputs(T=10, dtype=torch.float64):
    torch.manual_seed(0)
    shape = (2, T, 3, 4)  # in memory as the projections leave it
    return [torch.randn(shape, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 10, 64])
def test_blocked_attention_and_its_gradients_equal_the_formula(rows, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", rows)
    q, k, v = inputs()
    dy = torch.randn(2, 3, 10, 4, dtype=torch.float64)
    ours, formula = blocked_attention(q, k, v), attention_weights(q, k) @ v
    torch.testing.assert_close(ours, formula)
    gradients = torch.autograd.grad(ours, (q, k, v), dy)
    torch.testing.assert_close(gradients, torch.autograd.grad(formula, (q, k, v), dy))


@pytest.mark.parametrize("rows", [3, 64])
def test_gradients_with_dropout_are_those_of_the_function(rows, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", rows)

    def same_draws(*qkv):
        torch.manual_seed(1)
        return blocked_attention(*qkv, 0.3)

    assert torch.autograd.gradcheck(same_draws, inputs(7))


def test_blocked_dropout_equals_the_formula_when_one_block_holds_all_queries():
    q, k, v = inputs()
    torch.manual_seed(2)
    ours = blocked_attention(q, k, v, 0.4)
    torch.manual_seed(2)
    weights = attention_weights(q, k)
    torch.testing.assert_close(ours, (weights * module.dropout_mask(weights, 0.4)) @ v)


def test_blocked_attention_is_causal(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 3)
    q, k, v = inputs()
    before = blocked_attention(q, k, v)
    changed = [x.detach().clone() for x in (k, v)]
    for x in changed:
        x[:, :, 7:] = 100.0
    after = blocked_attention(q, *changed)
    assert torch.equal(after[:, :, :7], before[:, :, :7])
    assert not torch.equal(after[:, :, 7:], before[:, :, 7:])


def test_blocked_output_has_the_memory_layout_of_the_output_projection():
    y = blocked_attention(*inputs())
    assert y.shape == (2, 3, 10, 4)
    assert y.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize(
    ("n_rows", "want"), [(1, [(0, 1)]), (64, [(0, 64)]), (65, [(0, 64), (64, 65)])]
)
def test_blocks_cover_all_rows(n_rows, want):
    assert blocks(n_rows) == want


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["gpt", "nanochat"])
def test_model_trains_equally_with_and_without_blocks(architecture, precision, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 5)
    cfg = {
        "vocab_size": 31,
        "context_length": 12,
        "emb_dim": 48,
        "n_heads": 3,
        "n_layers": 2,
        "drop_rate": 0.0,
    }
    torch.manual_seed(0)
    model = build(cfg | {"architecture": architecture})
    for p in model.parameters():  # "modern" starts with matrices of zeros
        torch.nn.init.normal_(p, std=0.1)
    model_with_loss, ids = ModelWithLoss(model).train(), torch.randint(0, 31, (2, 12))
    found = {}
    for least in (1, 1000):
        monkeypatch.setattr(attention, "MIN_BLOCKED_LENGTH", least)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = model_with_loss(ids, ids)
        found[least] = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, model.parameters())]
        )
    error = (found[1] - found[1000]).norm() / found[1000].norm()
    assert 0 < error < (1e-5 if precision == torch.float32 else 0.03)
