"""Rotary position embeddings (RoPE): rotate queries and keys by angles that grow with position.

The product of a query and a key then depends on their distance only. `apply_rotary` rotates the
pair (i, i + D / 2) of a head at position p by the angle p ROPE_BASE^(-2i/D).
Tests: tests/model/test_rope.py (equal to a product of complex numbers, and to transformers' Llama).
Source: Su et al. 2021, "RoFormer", https://arxiv.org/abs/2104.09864, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROPE_BASE = 10_000.0  # the slowest pair completes a turn in about 2 pi ROPE_BASE tokens


def rotary_angles(
    positions: Tensor, head_dim: int, base: float = ROPE_BASE
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotation angles.

    Args:
        positions: [T], or [B, T].
        head_dim: D.
        base: larger values rotate the later pairs more slowly.
    Returns:
        Two tensors of [T, D / 2], or of [B, 1, T, D / 2].
    """
    # The reciprocal of a power and the power of a negative exponent differ in the last bit, which
    # position 40,000 turns into an error of 2.4e-4. transformers computes this reciprocal too.
    exponents = (
        torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    )
    frequencies = 1.0 / base**exponents  # [D // 2]
    angles = positions[..., None] * frequencies
    angles = angles if positions.dim() == 1 else angles[:, None]  # for all heads
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pair (i, i + D / 2) of every head by its angle. [..., T, D] -> the same shape.

    Args:
        x: queries or keys.
        angles: cosine and sine, as from `rotary_angles`.
    """
    cos, sin = angles
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
