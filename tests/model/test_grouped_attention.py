"""Grouped-query attention equals multi-head attention without sharing.

Each extra equals a formula.
"""

import pytest
import torch

from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.grouped_attention import (
    GroupedAttention,
    attend_grouped,
    decode_grouped,
    grouped_attention,
    softmax_with_sinks,
)
from llm_scratch.model.kv_cache import KVCache

B, T, C, H, G, D = 2, 9, 24, 6, 2, 4
OFF = Dropout(0.0)


def qkv(n_new=T):
    torch.manual_seed(0)
    return torch.randn(B, H, n_new, D), torch.randn(B, G, T, D), torch.randn(B, G, T, D)


def written_out(q, k, v, allowed, softcap=None, sinks=None):
    """Attention head by head and token by token: what every path must equal."""
    y = torch.zeros_like(q)
    for head in range(H):
        keys, values = k[:, head * G // H], v[:, head * G // H]
        scores = torch.einsum("btd,bsd->bts", q[:, head], keys) / D**0.5
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        weights = scores.exp() * allowed
        total = weights.sum(-1, keepdim=True) + (0 if sinks is None else sinks[head].exp())
        y[:, head] = torch.einsum("bts,bsd->btd", weights / total, values)
    return y


CAUSAL = torch.ones(T, T).tril()
EXTRAS = {
    "plain": {},
    "soft-capped": {"softcap": 1.5},
    "sinks": {"sinks": torch.linspace(-1, 2, H)},
    "both": {"softcap": 1.5, "sinks": torch.linspace(-1, 2, H)},
}


@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("window", [None, 3])
def test_grouped_attention_paths_equal_attention_head_by_head(extras, window):
    q, k, v = qkv()
    allowed = CAUSAL if window is None else CAUSAL.triu(1 - window)
    want = written_out(q, k, v, allowed, **EXTRAS[extras])
    mask = None if window is None else allowed.bool()
    for path in (attend_grouped, grouped_attention):
        torch.testing.assert_close(path(q, k, v, mask, OFF, **EXTRAS[extras]), want)
    row = None if mask is None else mask[-1:]
    for path in (attend_grouped, lambda *a, **more: decode_grouped(*a[:4], **more)):
        new = path(q[:, :, -1:], k, v, row, OFF, **EXTRAS[extras])
        torch.testing.assert_close(new, want[:, :, -1:])


def test_sink_of_minus_infinity_is_plain_softmax():
    scores = torch.randn(3, 5)
    torch.testing.assert_close(
        softmax_with_sinks(scores, torch.tensor([float("-inf")])), scores.softmax(-1)
    )
    assert (softmax_with_sinks(scores, torch.tensor([50.0])).sum(-1) < 1e-6).all()


def test_own_key_for_every_head_is_multi_head_attention():
    att, parent = GroupedAttention(C, H, H, D), MultiHeadAttention(C, C, T, 0.0, H)
    parent.load_state_dict(att.state_dict() | {"out_proj.bias": torch.zeros(C)})
    x = torch.randn(B, T, C)
    assert torch.equal(att(x), parent(x))


@pytest.mark.parametrize("extra", [{"window": T}, {"softcap": 1e4}, {"scale": D**-0.5}])
def test_extra_without_effect_equals_plain_attention(extra):
    att, plain = GroupedAttention(C, H, G, D, **extra), GroupedAttention(C, H, G, D)
    plain.load_state_dict(att.state_dict())
    x = torch.randn(B, T, C)
    torch.testing.assert_close(att(x), plain(x), rtol=1e-4, atol=1e-5)


def test_one_shared_head_equals_copies_of_it():
    shared, copies = GroupedAttention(C, H, 1, D), GroupedAttention(C, H, H, D)
    state = shared.state_dict()
    for name in ("W_key.weight", "W_value.weight"):
        state[name] = state[name].repeat(H, 1)
    copies.load_state_dict(state)
    x = torch.randn(B, T, C)
    torch.testing.assert_close(shared(x), copies(x))


def test_qk_norm_applies_per_head_or_over_all_heads():
    x = torch.randn(B, T, C)
    for kind, size in (("head", D), ("whole", H * D)):
        att = GroupedAttention(C, H, H, D, qk_norm=kind)
        q, k, _ = att.heads(*att.project(100 * x))  # far above eps
        for y in (q, k):
            y = y.transpose(1, 2).flatten(2).unflatten(-1, (-1, size))
            torch.testing.assert_close(y.square().mean(-1), torch.ones(y.shape[:-1]))


@pytest.mark.parametrize("cuts", [[1] * T, [4, 1, 4], [T]])
def test_windowed_cache_equals_uncached(cuts):
    att = GroupedAttention(C, H, G, D, window=3)
    x = torch.randn(B, T, C)
    cache = KVCache((1, B, G, T, D), torch.float32, torch.device("cpu"), block=2)
    parts = []
    for part in x.split(cuts, 1):
        parts.append(att(part, cache=cache))
        cache.advance(part.shape[1])
    torch.testing.assert_close(torch.cat(parts, 1), att(x))


def test_cache_holds_shared_heads_only():
    from llm_scratch.model import build

    sizes = {"vocab_size": 11, "context_length": 8, "emb_dim": 24, "n_heads": 6, "n_layers": 3}
    grouped = build({"architecture": "llama", "n_kv_heads": 2, **sizes})
    cache = grouped.new_cache(5, block=None)
    held = sum(tensor.nbytes for tensor in (*cache.keys, *cache.values))
    assert held == 2 * 3 * 5 * 2 * 8 * 4 * 4 == 5 * grouped.cache_bytes(8)
    assert 3 * grouped.cache_bytes(8) == build({"architecture": "llama", **sizes}).cache_bytes(8)


def test_gradients_by_the_kernels_equal_those_of_the_formula():
    att = GroupedAttention(C, H, G, D, drop_rate=0.0)
    x = torch.randn(B, T, C)
    att(x).square().sum().backward()
    want = {name: p.grad.clone() for name, p in att.named_parameters()}
    att.zero_grad()
    q, k, v = att.heads(*att.project(x))
    y = grouped_attention(q, k, v, None, att.dropout)
    att.out_proj(y.transpose(1, 2).flatten(2)).square().sum().backward()
    for name, parameter in att.named_parameters():
        torch.testing.assert_close(parameter.grad, want[name])
