"""Attention: the kernel equals the formula, and the formula equals torch's module.

No position depends on later ones.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.model.attention import (
    MultiHeadAttention,
    attend,
    attention_weights,
    decode_attention,
    kernel_attention,
)
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.kv_cache import KVCache

B, T, C, H = 2, 7, 12, 3
D = C // H


@pytest.fixture(
    params=[(bias, short) for bias in (False, True) for short in (0, 512)],
    ids=lambda p: f"bias {p[0]}, formula up to {p[1]}",
)
def attention(request, monkeypatch):
    """Return attention with or without biases, by the kernel or by the formula.

    A CPU uses the formula up to `MAX_FORMULA_LENGTH`.
    """
    monkeypatch.setattr("llm_scratch.model.attention.MAX_FORMULA_LENGTH", request.param[1])
    torch.manual_seed(0)
    return MultiHeadAttention(C, C, 16, 0.0, H, request.param[0]).eval()


@pytest.fixture
def x():
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(1))


def by_the_formula(attention, x):
    q, k, v = (
        part(x).view(B, -1, H, D).transpose(1, 2)
        for part in (attention.W_query, attention.W_key, attention.W_value)
    )
    return attention.out_proj((attention_weights(q, k) @ v).transpose(1, 2).flatten(2))


def test_fused_attention_equals_the_formula(attention, x):
    torch.testing.assert_close(attention(x), by_the_formula(attention, x), rtol=1e-5, atol=1e-6)


def test_attention_gradients_equal_the_formula(attention, x):
    wrt = list(attention.parameters())
    ours, theirs = (
        torch.autograd.grad(y.square().sum(), wrt)
        for y in (attention(x), by_the_formula(attention, x))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [3, 4, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_kernel_attention_pads_values_to_the_size_of_keys(size, masked, monkeypatch):
    (q, k), v = torch.randn(2, B, H, T, D), torch.randn(B, H, T, size)
    mask = torch.ones(T, T, dtype=torch.bool).tril() if masked else None
    kernel, sizes = F.scaled_dot_product_attention, []

    def spy(*tensors, **options):
        sizes.append({tensor.shape[-1] for tensor in tensors})
        return kernel(*tensors, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    y = kernel_attention(q, k, v, mask, 0.0)
    assert sizes == [{max(size, D)}]
    torch.testing.assert_close(y, attention_weights(q, k) @ v, rtol=1e-5, atol=1e-6)


def test_attention_uses_the_formula_for_short_rows_and_the_kernel_for_long_ones(x, monkeypatch):
    attention, kernel_lengths = MultiHeadAttention(C, C, 16, 0.0, H).eval(), []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *a, **k: kernel_lengths.append(a[0].shape[2]) or kernel(*a, **k),
    )
    monkeypatch.setattr("llm_scratch.model.attention.MAX_FORMULA_LENGTH", T - 1)
    attention(x[:, : T - 1])
    assert kernel_lengths == []
    attention(x)
    assert kernel_lengths == [T]


def test_attention_equals_torch_multihead_attention(attention, x):
    theirs = nn.MultiheadAttention(C, H, batch_first=True).eval()
    parts = (attention.W_query, attention.W_key, attention.W_value)
    zeros = torch.zeros(C)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat(
                [zeros if part.bias is None else part.bias for part in parts]
            ),
            "out_proj.weight": attention.out_proj.weight,
            "out_proj.bias": attention.out_proj.bias,
        }
    )
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    want, weights = theirs(x, x, x, attn_mask=future, average_attn_weights=False)
    torch.testing.assert_close(attention(x), want, rtol=1e-5, atol=1e-6)
    q, k = (part(x).view(B, T, H, D).transpose(1, 2) for part in parts[:2])
    torch.testing.assert_close(attention_weights(q, k), weights, rtol=1e-5, atol=1e-6)


def test_attention_weights_are_a_distribution_over_the_past():
    q, k = torch.randn(2, B, H, T, D)
    weights = attention_weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T))
    assert (weights.triu(1) == 0).all()
    assert (weights.tril() > 0).sum() == B * H * T * (T + 1) // 2


@pytest.mark.parametrize("t", [0, 3, T - 1])
def test_later_token_changes_no_earlier_output(attention, x, t):
    other = x.clone()
    other[:, t] += 1
    before, after = attention(x), attention(other)
    torch.testing.assert_close(before[:, :t], after[:, :t], rtol=0, atol=0)
    assert not torch.allclose(before[:, t:], after[:, t:])


@pytest.mark.parametrize("cuts", [[1] * T, [3, 4], [7], [2, 1, 4]])
def test_cached_logits_in_any_chunks_equal_uncached_logits(attention, x, cuts):
    cache = KVCache((1, B, H, 16, D), x.dtype, x.device)
    pieces = []
    for piece in x.split(cuts, dim=1):
        pieces.append(attention(piece, cache))
        cache.advance(piece.shape[1])
    torch.testing.assert_close(torch.cat(pieces, 1), attention(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("blanks", [None, [3, 0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_one_new_token_by_sums_equals_the_kernel(blanks, dtype):
    q, k, v = torch.randn(B, H, 1, D), torch.randn(B, H, T, D), torch.randn(B, H, T, D)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    mask = (
        None
        if blanks is None
        else (torch.arange(T) >= torch.tensor(blanks)[:, None])[:, None, None]
    )
    want = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask)
    got = decode_attention(q, k, v, mask)
    assert got.dtype == dtype
    torch.testing.assert_close(
        got.double(),
        want,
        rtol=1e-5 if dtype == torch.float32 else 1e-2,
        atol=1e-6 if dtype == torch.float32 else 1e-3,
    )


def test_attention_dropout_is_applied_only_in_training(x):
    attention = MultiHeadAttention(C, C, 16, 0.5, H)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_mask_in_an_old_checkpoint_is_dropped(attention):
    state = dict(attention.state_dict())
    assert "mask" not in state
    attention.load_state_dict(state | {"mask": torch.ones(16, 16).triu(1)})
    assert torch.equal(attention.mask, torch.ones(16, 16).triu(1))


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="d_out=10 is not a multiple of num_heads=3"):
        MultiHeadAttention(12, 10, 16, 0.0, 3)


def test_attention_dropout_equals_the_formula(x):
    """With one seed the same weights are dropped: softmax, then dropout, then the weighted mean."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(C, C, 16, 0.4, H).train()
    q, k, v = (
        part(x).view(B, -1, H, D).transpose(1, 2)
        for part in (attention.W_query, attention.W_key, attention.W_value)
    )
    torch.manual_seed(3)
    want = attention.out_proj(
        (attention.dropout(attention_weights(q, k)) @ v).transpose(1, 2).flatten(2)
    )
    torch.manual_seed(3)
    torch.testing.assert_close(attention(x), want)
    assert not torch.allclose(attention(x), want)


@pytest.mark.parametrize("masked", [False, True])
def test_one_token_after_a_long_text_allocates_no_tensor_as_large_as_the_cache(monkeypatch, masked):
    q, (k, v) = torch.randn(B, H, 1, D), torch.randn(2, B, H, T, D)
    mask = torch.arange(T)[None] > 2 if masked else None
    want = attend(q, k, v, mask, Dropout(0.0))
    monkeypatch.setattr("llm_scratch.model.attention.MAX_SUMMED_LENGTH", T - 1)
    monkeypatch.delattr("llm_scratch.model.attention.decode_attention")
    torch.testing.assert_close(attend(q, k, v, mask, Dropout(0.0)), want)
