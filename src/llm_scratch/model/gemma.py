"""Gemma 2 and 3: the architecture "gemma".

What they change relative to Llama (`llama.py`):
- norms before and after each part (sandwich norms), whose weights are offsets from 1
- a GELU instead of a SiLU in the gate (GeGLU)
- embeddings are multiplied by sqrt(C), since the table is the output head too
- windows in all layers but every n-th; in Gemma 3 these have their own rotary base
- Gemma 2: attention scores and logits are soft-capped: c tanh(x / c)
- Gemma 3: QK-norm by head in place of the soft-cap

Tests: tests/model/test_gemma.py (equal to transformers' Gemma2 and Gemma3).
Source: Gemma 2, 2024, https://arxiv.org/abs/2408.00118, section 2; Gemma 3, 2025,
https://arxiv.org/abs/2503.19786, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from llm_scratch.architectures.gemma import GemmaConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import Rotary, RotaryAngles


def gemma_block(cfg: GemmaConfig, layer: int) -> DecoderBlock:
    """The block of a layer: each part between two norms."""
    att = grouped(
        cfg,
        layer,
        qk_norm="head" if cfg.qk_norm else "none",
        unit_offset=True,
        scale=(cfg.query_size or cfg.head_size) ** -0.5,
        softcap=cfg.attention_softcap,
    )
    ff = GatedFeedForward(cfg.emb_dim, cfg.ff_size, "gelu_tanh")
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps, unit_offset=True)
    return DecoderBlock(att, ff, norm, "both", cfg.drop_rate)


class GemmaModel(DecoderModel):
    """Gemma language model: for each position the logits of every possible next token.

    Args:
        cfg: a `GemmaConfig`, or a dict of its fields.
    """

    cfg: GemmaConfig

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = GemmaConfig.of(cfg)
        blocks = (gemma_block(cfg, layer) for layer in range(cfg.n_layers))
        super().__init__(cfg, blocks, RMSNorm(cfg.emb_dim, cfg.norm_eps, unit_offset=True))

    def embed(self, in_idx: Tensor) -> Tensor:
        """Token ids [B, T] -> scaled embeddings [B, T, C]."""
        return self.tok_emb(in_idx) * self.cfg.emb_dim**0.5  # [B, T, C]

    def layer_angles(self, positions: Tensor) -> list[RotaryAngles | None]:
        """Rotary angles: layers with a window have their own base, without scaling."""
        full = super().layer_angles(positions)
        base = self.cfg.rope_local_base or self.cfg.rope_base
        size = self.cfg.head_size
        local = Rotary.of(self.cfg, size, scaling="none", base=base).angles(positions)
        return [local if window else angles for window, angles in zip(self.cfg.windows, full)]

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states -> soft-capped logits, [..., C] -> [..., V]."""
        logits = super().logits(hidden)
        cap = self.cfg.logit_softcap
        return logits if cap is None else cap * (logits / cap).tanh()
