"""Rotary positions equal products of complex numbers, and transformers' Llama.

Only the distance of positions matters.
"""

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from llm_scratch.model.rope import ROPE_BASE, Rotary, apply_rotary, rotary_angles

B, H, T, D = 2, 3, 9, 8


def test_rope_rotation_equals_a_complex_product():
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


def test_rope_equals_transformers_llama():
    q, k, places = torch.randn(B, H, T, D), torch.randn(B, H, T, D), torch.arange(5, 5 + T)
    cos, sin = (part[..., D // 2 :].repeat(1, 2)[None] for part in rotary_angles(places, D))
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
    our_cos, our_sin = rotary_angles(places, head_dim, base)
    assert torch.equal(our_cos, cos[0])
    assert torch.equal(our_sin[:, : head_dim // 2], -sin[0, :, : head_dim // 2])
    assert torch.equal(our_sin[:, head_dim // 2 :], sin[0, :, head_dim // 2 :])


@pytest.mark.parametrize("shift", [1, 100])
def test_rotated_product_depends_only_on_the_distance(shift):
    q, k, places = torch.randn(1, 1, T, D), torch.randn(1, 1, T, D), torch.arange(T)
    here, there = (
        apply_rotary(q, rotary_angles(p, D)) @ apply_rotary(k, rotary_angles(p, D)).mT
        for p in (places, places + shift)
    )
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


def test_rope_applies_positions_per_row():
    x, places = torch.randn(B, H, T, D), torch.stack([torch.arange(T), torch.arange(T) + 3])
    together = apply_rotary(x, rotary_angles(places, D))
    for row in range(B):
        torch.testing.assert_close(
            together[row], apply_rotary(x[row], rotary_angles(places[row], D))
        )


SCALINGS = {
    "linear": {"factor": 2.5},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "yarn": {"factor": 4.0},
    "yarn with its own ends": {"factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0},
    "yarn, factor of attention": {"factor": 4.0, "attention_factor": 1.5},
    "yarn, not rounded": {"factor": 40.0, "truncate": False},
}
OURS = {"low_freq_factor": "low_freq", "high_freq_factor": "high_freq"}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("head_dim", [8, 64, 96])
@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_scaled_frequencies_equal_transformers(name, head_dim, base):
    kind, settings = name.partition(" ")[0].strip(","), SCALINGS[name]
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        max_position_embeddings=4096,
        rope_parameters={
            "rope_type": kind,
            "rope_theta": base,
            "original_max_position_embeddings": 512,
            **settings,
        },
    )
    want, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    own = {OURS.get(key, key): value for key, value in settings.items()}
    rotary = Rotary(head_dim, base, kind, trained_context=512, **own)
    torch.testing.assert_close(rotary.frequencies(torch.device("cpu")), want, rtol=1e-6, atol=0)
    assert rotary.magnitude == pytest.approx(magnitude)


@pytest.mark.parametrize("scaling", ["linear", "ntk", "llama3", "yarn"])
def test_rope_scaling_by_one_is_the_identity(scaling):
    plain, scaled = Rotary(D), Rotary(D, scaling=scaling, factor=1.0, trained_context=64)
    positions = torch.arange(T)
    torch.testing.assert_close(scaled.angles(positions), plain.angles(positions))


def test_ntk_divides_the_slowest_pair_and_keeps_the_fastest():
    plain, scaled = (
        Rotary(64, scaling=scaling, factor=8.0).frequencies(torch.device("cpu"))
        for scaling in ("none", "ntk")
    )
    assert scaled[0] == plain[0]
    assert plain[-1] / scaled[-1] == pytest.approx(8.0, rel=1e-4)


def test_rope_pairings_are_equal_with_reordered_elements():
    x, angles = torch.randn(B, H, T, D), rotary_angles(torch.arange(T), D)
    order = torch.arange(D).view(2, -1).T.flatten()  # 0, D / 2, 1, D / 2 + 1, ...
    interleaved = apply_rotary(x[..., order], angles, interleaved=True)
    torch.testing.assert_close(interleaved, apply_rotary(x, angles)[..., order])


def test_rest_of_a_head_is_not_rotated():
    x, angles = torch.randn(B, H, T, D), rotary_angles(torch.arange(T), D // 2)
    y = apply_rotary(x, angles)
    assert torch.equal(y[..., D // 2 :], x[..., D // 2 :])
    assert torch.equal(y[..., : D // 2], apply_rotary(x[..., : D // 2], angles))
