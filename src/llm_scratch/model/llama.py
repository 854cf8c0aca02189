"""Llama: the transformer that most open models start from, the architecture "llama".

What it changes relative to GPT-2:
- rotary positions in every layer instead of learned ones at the bottom (`rope.py`)
- RMSNorm instead of layer norm (`norms.py`), and no biases
- a gated feed-forward network, SwiGLU (`gated_ff.py`)
- from Llama 2 70B on, query heads share key/value heads (`grouped_attention.py`)

Mistral adds a sliding window to every layer; SmolLM3 leaves out the positions of every fourth
layer, which then sees order through the causal mask alone (Yang et al. 2025,
https://arxiv.org/abs/2501.18795).
Tests: tests/model/test_llama.py (equal to transformers' Llama, Mistral and SmolLM3).
Source: Llama, Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Mistral 7B, Jiang et al. 2023,
https://arxiv.org/abs/2310.06825.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from llm_scratch.architectures.llama import LlamaConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import RotaryAngles


def llama_block(cfg: LlamaConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, attention, norm, feed-forward network."""
    att = grouped(cfg, layer, qkv_bias=cfg.attention_bias, out_bias=cfg.attention_bias)
    ff = GatedFeedForward(cfg.emb_dim, cfg.ff_size, bias=cfg.ff_bias)
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, drop_rate=cfg.drop_rate)


class LlamaModel(DecoderModel):
    """Llama language model: for each position the logits of every possible next token.

    Args:
        cfg: a `LlamaConfig`, or a dict of its fields.
    """

    cfg: LlamaConfig

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = LlamaConfig.of(cfg)
        super().__init__(cfg, (llama_block(cfg, layer) for layer in range(cfg.n_layers)))

    def layer_angles(self, positions: Tensor) -> list[RotaryAngles | None]:
        """The same rotary angles in every layer, except those without positions."""
        angles = super().layer_angles(positions)
        if (every := self.cfg.no_rope_every) is not None:
            angles[every - 1 :: every] = [None] * len(angles[every - 1 :: every])
        return angles
