"""OLMo 2 and 3: the architecture "olmo".

What they change relative to Llama (`llama.py`):
- a norm after each part and none before it: x + norm(att(x)), so that what is added to the residual
  stream keeps its size
- queries and keys are RMS-normalized across all heads at once before they are rotated
- OLMo 3: three of four layers have a sliding window; only the fourth reaches further, and only its
  rotary positions are scaled to a longer context

Tests: tests/model/test_olmo.py (equal to transformers' Olmo2 and Olmo3).
Source: OLMo 2, Walsh et al. 2025, https://arxiv.org/abs/2501.00656, section 3; OLMo 3,
https://arxiv.org/abs/2512.13961.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from llm_scratch.architectures.olmo import OlmoConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import Rotary, RotaryAngles


def olmo_block(cfg: OlmoConfig, layer: int) -> DecoderBlock:
    """The block of a layer: attention, norm, feed-forward network, norm."""
    att = grouped(cfg, layer, qk_norm="whole")
    ff = GatedFeedForward(cfg.emb_dim, cfg.ff_size)
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, "after", cfg.drop_rate)


class OlmoModel(DecoderModel):
    """OLMo language model: for each position the logits of every possible next token.

    Args:
        cfg: an `OlmoConfig`, or a dict of its fields.
    """

    cfg: OlmoConfig

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = OlmoConfig.of(cfg)
        super().__init__(cfg, (olmo_block(cfg, layer) for layer in range(cfg.n_layers)))

    def layer_angles(self, positions: Tensor) -> list[RotaryAngles | None]:
        """Rotary angles, scaled in the layers without a window only."""
        full = super().layer_angles(positions)
        local = Rotary.of(self.cfg, self.cfg.head_size, scaling="none").angles(positions)
        return [local if window else angles for window, angles in zip(self.cfg.windows, full)]
