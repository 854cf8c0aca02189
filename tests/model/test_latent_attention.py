"""Latent attention: absorbed equals plain, in any pieces, and the cache holds the latent only."""

import pytest
import torch

from llm_scratch.model.attention import attention_weights
from llm_scratch.model.blocked_attention import blocked_attention
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.latent_attention import LatentAttention, LatentSizes
from llm_scratch.model.rope import rotary_angles

B, T, C, H = 2, 9, 20, 3
SIZES = LatentSizes(latent=8, key=5, rotated=4, value=7)


def attention(**changes):
    torch.manual_seed(0)
    return LatentAttention(C, H, SIZES._replace(**changes), scale=1.3).eval()


def cache_of(sizes, rows=B, length=T, device="cpu"):
    shape = (1, rows, 1, length, sizes.latent + sizes.rotated)
    return KVCache(shape, torch.float32, torch.device(device), 4, value_size=0)


def in_pieces(att, x, cuts, padding=None):
    cache, outputs = cache_of(att.sizes), []
    cache.left_padding = padding
    for piece in x.split(cuts, 1):
        angles = rotary_angles(cache.positions(piece.shape[1]), att.sizes.rotated)
        outputs.append(att(piece, angles, cache))
        cache.advance(piece.shape[1])
    return torch.cat(outputs, 1)


@torch.no_grad()
@pytest.mark.parametrize("query_latent", [None, 6])
@pytest.mark.parametrize("cuts", [[1] * T, [4, 1, 2, 2], [T]])
def test_absorbed_attention_equals_plain(query_latent, cuts, monkeypatch):
    att = attention(query_latent=query_latent)
    x = torch.randn(B, T, C)
    plain = att(x, rotary_angles(torch.arange(T), 4))
    monkeypatch.setattr(att, "_absorbing_pays", lambda *_: True)
    monkeypatch.delattr(LatentAttention, "_plain")
    torch.testing.assert_close(in_pieces(att, x, cuts), plain, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_absorbed_row_with_padding_equals_the_row_alone(monkeypatch):
    att, x = attention(), torch.randn(B, T, C)
    monkeypatch.setattr(att, "_absorbing_pays", lambda *_: True)
    y = in_pieces(att, x, [5, 1, 3], torch.tensor([0, 2]))
    alone = att(x[1:, 2:], rotary_angles(torch.arange(T - 2), 4))
    torch.testing.assert_close(y[1:, 2:], alone, rtol=1e-5, atol=1e-5)


def test_plain_form_is_ordinary_attention_with_two_part_keys():
    att, x = attention(), torch.randn(B, T, C)
    angles = rotary_angles(torch.arange(T), 4)
    cos, sin = (part[..., 2:] for part in angles)  # those of the second dimension of each pair

    def rotate(pairs):
        a, b = pairs[..., ::2], pairs[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)

    q = att.query_up(x).view(B, T, H, 9).transpose(1, 2)
    latent, shared = att.latent_down(x).split([8, 4], -1)
    latent = att.latent_norm(latent)
    k = att.W_key(latent).view(B, T, H, 5).transpose(1, 2)
    v = att.W_value(latent).view(B, T, H, 7).transpose(1, 2)
    q = torch.cat([q[..., :5], rotate(q[..., 5:])], -1)
    k = torch.cat([k, rotate(shared)[:, None].expand(-1, H, -1, -1)], -1)
    y = (attention_weights(1.3 * q, k) @ v).transpose(1, 2).reshape(B, T, -1)
    torch.testing.assert_close(att(x, angles), att.out_proj(y))


@pytest.mark.parametrize("pays", [True, False])
def test_absorbing_is_chosen_by_the_number_of_products(pays):
    """R = 8: a key and a value take 8 x 12 products, absorbed scores and sums 4 more a token."""
    att, T = attention(), 24 if not pays else 23
    cache = cache_of(SIZES)
    assert att._absorbing_pays(T, cache) == pays
    assert not att.train()._absorbing_pays(1, cache)
    assert not att.eval()._absorbing_pays(1, None)


def test_cache_holds_latent_and_rotated_key_only():
    """DeepSeek-V3 caches 576 values per token and layer; 128 heads would need 40,960."""
    sizes = LatentSizes(latent=512, key=128, rotated=64, value=128)
    cache = cache_of(sizes, rows=1, length=1000, device="meta")
    cache.grow(1000)
    assert cache.nbytes == 1000 * (512 + 64) * 4


def test_blocked_attention_takes_values_of_another_size():
    q, k = torch.randn(2, B, H, 70, 4, dtype=torch.float64, requires_grad=True)
    v = torch.randn(B, H, 70, 3, dtype=torch.float64, requires_grad=True)
    ours, formula = blocked_attention(q, k, v), attention_weights(q, k) @ v
    torch.testing.assert_close(ours, formula)
    dy = torch.randn_like(formula)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (q, k, v), dy), torch.autograd.grad(formula, (q, k, v), dy)
    )
