"""Rotary positions: a token's place turns its query and its key, so that their product depends on how far apart two tokens are.

Read `rotate`; the numbers of a head are taken as pairs, and pair i of a token at place p is turned by the angle p x BASE^(-2i/D).
Proof: tests/model/test_rope.py (equal to a product of complex numbers, and to transformers' Llama).
Source: Su et al. 2021, "RoFormer", https://arxiv.org/abs/2104.09864, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROPE_BASE = 10_000.0  # the slowest pair turns once in about so many tokens, times 2 pi


def rotary_angles(places: Tensor, head_dim: int, base: float = ROPE_BASE) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every pair's angle. places: [T], or [B, T] -> two of [T, D / 2], or of [B, 1, T, D / 2]."""
    # The reciprocal of a power, not the power of a negative exponent: they differ in the last bit, which position 40,000
    # makes an error of 2.4e-4. transformers computes the same reciprocal.
    exponents = torch.arange(0, head_dim, 2, device=places.device, dtype=torch.float32) / head_dim  # [D // 2]
    slower = 1.0 / base**exponents
    turned = places[..., None] * slower
    turned = turned if places.dim() == 1 else turned[:, None]  # all heads of a row alike
    return turned.cos(), turned.sin()


def apply_rotary(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pair (i, i + D / 2) of every head by its angle. x: [..., T, D], turn: as `angles` gives it -> the shape of x."""
    cos, sin = turn
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
