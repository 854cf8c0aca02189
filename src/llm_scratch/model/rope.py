"""Rotary position embeddings (RoPE): rotate queries and keys by angles that grow with position.

The product of a query and a key then depends on their distance only. `apply_rotary` rotates the
pair (i, i + D / 2) of a head at position p by the angle p ROPE_BASE^(-2i/D). To reach beyond the
context of training, current models also slow the rotation down (`Rotary.scaling`).
Tests: tests/model/test_rope.py (equal to a product of complex numbers, and to transformers' Llama).
Source: Su et al. 2021, "RoFormer", https://arxiv.org/abs/2104.09864, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

ROPE_BASE = 10_000.0  # the slowest pair completes a turn in about 2 pi ROPE_BASE tokens

RotaryAngles = tuple[Tensor, Tensor]
"""cosine and signed sine of every dimension of a head, as from `rotary_angles`"""


@dataclass(frozen=True)
class Rotary:
    """How fast each pair of a head rotates: the base, and a scaling for longer contexts.

    Attributes:
        head_dim: D, or the part of a head that is rotated (partial rotary embeddings).
        base: larger values rotate the later pairs more slowly.
        scaling: "none"; "linear" divides every frequency by `factor`
            (https://arxiv.org/abs/2306.15595); "ntk" raises the base, so that the slowest pair
            alone is divided by it (https://arxiv.org/abs/2306.15595, comments); "llama3" divides
            the slow pairs and keeps the fast ones (https://arxiv.org/abs/2407.21783); "yarn" does
            so by another ramp, and sharpens attention (https://arxiv.org/abs/2309.00071).
        factor: how many times longer the context becomes.
        trained_context: tokens of the context before scaling.
        low_freq, high_freq: of "llama3": pairs with fewer turns than `low_freq` in the trained
            context are divided, those with more than `high_freq` are kept.
        beta_slow, beta_fast: the same of "yarn".
        attention_factor: of "yarn": factor of cosine and sine; None: 0.1 ln(factor) + 1.
        truncate: of "yarn": round the ends of the ramp to whole pairs.
    """

    head_dim: int
    base: float = ROPE_BASE
    scaling: str = "none"
    factor: float = 1.0
    trained_context: int = 1024
    low_freq: float = 1.0
    high_freq: float = 4.0
    beta_slow: float = 1.0
    beta_fast: float = 32.0
    attention_factor: float | None = None
    truncate: bool = True

    @classmethod
    def of(cls, cfg: Mapping[str, Any], head_dim: int, **changes: Any) -> Self:
        """The settings `rope_*` of a model's config; `changes` replace some of them."""
        names = [name for name in cls.__dataclass_fields__ if f"rope_{name}" in cfg]
        settings = {name: cfg[f"rope_{name}"] for name in names}
        if settings.get("trained_context") is None:
            settings["trained_context"] = cfg["context_length"]
        return cls(head_dim, **settings | changes)

    def frequencies(self, device: torch.device) -> Tensor:
        """Radians per token of every pair: [D / 2]."""
        D = self.head_dim
        # The reciprocal of a power and the power of a negative exponent differ in the last bit,
        # which position 40,000 turns into an error of 2.4e-4. transformers computes this reciprocal
        # too.
        exponents = torch.arange(0, D, 2, device=device, dtype=torch.float32) / D
        frequencies = 1.0 / self.scaled_base**exponents
        if self.scaling == "linear":
            return frequencies / self.factor
        if self.scaling == "llama3":
            return self._interpolated(frequencies, self._llama3_kept(frequencies))
        if self.scaling == "yarn":
            return self._interpolated(frequencies, self._yarn_kept(frequencies))
        return frequencies

    def angles(self, positions: Tensor) -> RotaryAngles:
        """Cosine and sine of the rotation angles, as from `rotary_angles`."""
        angles = positions[..., None] * self.frequencies(positions.device)
        angles = angles if positions.dim() == 1 else angles[:, None]  # for all heads
        cos, sin = angles.cos(), angles.sin()
        if (factor := self.magnitude) != 1:
            cos, sin = cos * factor, sin * factor
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)

    @property
    def scaled_base(self) -> float:
        """The base of the frequencies; raised by "ntk" only."""
        D = self.head_dim
        raised = self.scaling == "ntk" and D > 2
        return self.base * self.factor ** (D / (D - 2)) if raised else self.base

    @property
    def magnitude(self) -> float:
        """Factor of cosine and sine; 1 except for "yarn"."""
        if self.scaling != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return yarn_magnitude(self.factor)

    def _interpolated(self, frequencies: Tensor, kept: Tensor) -> Tensor:
        """Divide frequencies by the factor, except the share of each that is kept."""
        return (1 - kept) * frequencies / self.factor + kept * frequencies

    def _llama3_kept(self, frequencies: Tensor) -> Tensor:
        """Share of each frequency that is kept: a ramp over its turns in the trained context."""
        turns = self.trained_context * frequencies / (2 * math.pi)  # [D // 2]
        return ((turns - self.low_freq) / (self.high_freq - self.low_freq)).clamp(0, 1)

    def _yarn_kept(self, frequencies: Tensor) -> Tensor:
        """Share of each frequency that is kept: a ramp over the number of the pair."""
        D = self.head_dim

        def pair_with(turns: float) -> float:
            wavelength = self.trained_context / turns
            return D * math.log(wavelength / (2 * math.pi)) / (2 * math.log(self.base))

        first, last = pair_with(self.beta_fast), pair_with(self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, D - 1)
        last = last if last != first else first + 0.001
        pairs = torch.arange(D // 2, device=frequencies.device, dtype=torch.float32)
        return 1 - ((pairs - first) / (last - first)).clamp(0, 1)


def yarn_magnitude(factor: float, share: float = 1.0) -> float:
    """YaRN's factor of queries and keys for a context `factor` times longer.

    Args:
        factor: how many times longer the context becomes; up to 1, the result is 1.
        share: of the published correction; DeepSeek-V3 calls it `mscale`.
    """
    return 0.1 * share * math.log(factor) + 1 if factor > 1 else 1.0


def rotary_angles(positions: Tensor, head_dim: int, base: float = ROPE_BASE) -> RotaryAngles:
    """Cosine and sine of the rotation angles, for both dimensions of each pair.

    Dimension i and its partner i + D / 2 have the same angle; the sine of the first is negative, as
    it multiplies the second.

    Args:
        positions: [T], or [B, T].
        head_dim: D.
        base: larger values rotate the later pairs more slowly.
    Returns:
        Two tensors of [T, D], or of [B, 1, T, D].
    """
    return Rotary(head_dim, base).angles(positions)


def apply_rotary(x: Tensor, angles: RotaryAngles, interleaved: bool = False) -> Tensor:
    """Rotate the pair (i, i + D / 2) of every head by its angle. [..., T, D] -> the same shape.

    Args:
        x: queries or keys. If they are longer than the angles' pairs, the rest is not rotated.
        angles: cosine and sine, as from `rotary_angles`.
        interleaved: rotate the pair (2i, 2i + 1) instead, as the paper and Meta's own Llama do.
            With rows of the projection reordered, both are the same model.
    """
    cos, sin = angles
    D = cos.shape[-1]
    rotated, rest = (x, None) if x.shape[-1] == D else (x[..., :D], x[..., D:])
    if interleaved:
        rotated = torch.cat([rotated[..., ::2], rotated[..., 1::2]], -1)
    partners = rotated.roll(D // 2, -1)  # the other dimension of each pair
    rotated = rotated * cos + partners * sin
    if interleaved:
        rotated = rotated.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    return rotated if rest is None else torch.cat([rotated, rest.type_as(rotated)], dim=-1)
