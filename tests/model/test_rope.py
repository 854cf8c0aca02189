"""Rotary positions: complex numbers that are multiplied,
transformers' Llama, and what the trick is for: only distance counts.
"""

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from llm_scratch.model.rope import ROPE_BASE, apply_rotary, rotary_angles

B, H, T, D = 2, 3, 9, 8


def test_a_pair_is_a_complex_number_that_is_turned():
    x, places = torch.randn(B, H, T, D, dtype=torch.float64), torch.arange(T)
    pairs = torch.complex(x[..., : D // 2], x[..., D // 2 :])
    speed = torch.tensor([ROPE_BASE ** (-2 * i / D) for i in range(D // 2)], dtype=torch.float64)
    want = pairs * torch.polar(torch.ones(T, D // 2, dtype=torch.float64), places[:, None] * speed)
    torch.testing.assert_close(
        apply_rotary(x, rotary_angles(places, D)),
        torch.cat([want.real, want.imag], -1),
        rtol=1e-5,
        atol=1e-5,
    )


def test_equals_transformers_llama():
    q, k, places = torch.randn(B, H, T, D), torch.randn(B, H, T, D), torch.arange(5, 5 + T)
    cos, sin = (torch.cat([part, part], -1)[None] for part in rotary_angles(places, D))
    want = apply_rotary_pos_emb(q, k, cos, sin)
    torch.testing.assert_close(
        (apply_rotary(q, rotary_angles(places, D)), apply_rotary(k, rotary_angles(places, D))), want
    )


@pytest.mark.parametrize("head_dim", [8, 64, 96, 128])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_angles_equal_transformers_rotary_embedding_bit_for_bit_at_any_position(head_dim, base):
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )
    places = torch.arange(0, 40_001, 7)
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), places[None])  # [1, T, D] each
    for ours, theirs in zip(rotary_angles(places, head_dim, base), (cos, sin)):
        assert torch.equal(ours, theirs[0, :, : head_dim // 2])
        assert torch.equal(ours, theirs[0, :, head_dim // 2 :])


@pytest.mark.parametrize("shift", [1, 100])
def test_a_product_depends_on_the_distance_alone(shift):
    q, k, places = torch.randn(1, 1, T, D), torch.randn(1, 1, T, D), torch.arange(T)
    here, there = (
        apply_rotary(q, rotary_angles(p, D)) @ apply_rotary(k, rotary_angles(p, D)).mT
        for p in (places, places + shift)
    )
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


def test_each_row_has_places_of_its_own():
    x, places = torch.randn(B, H, T, D), torch.stack([torch.arange(T), torch.arange(T) + 3])
    together = apply_rotary(x, rotary_angles(places, D))
    for row in range(B):
        torch.testing.assert_close(
            together[row], apply_rotary(x[row], rotary_angles(places[row], D))
        )
