"""Qwen2 and Qwen3: the architecture "qwen".

What they change relative to Llama (`llama.py`):
- Qwen2: the query, key and value projections have a bias
- Qwen3: no bias; instead queries and keys are RMS-normalized head by head before they are rotated
  (QK-norm, Henry et al. 2020, https://arxiv.org/abs/2010.04245), so that scores stay bounded while
  the weights grow

Tests: tests/model/test_qwen.py (equal to transformers' Qwen2 and Qwen3).
Source: Qwen2, Yang et al. 2024, https://arxiv.org/abs/2407.10671; Qwen3, Yang et al. 2025,
https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llm_scratch.architectures.qwen import QwenConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.norms import RMSNorm


def qwen_block(cfg: QwenConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, attention, norm, feed-forward network."""
    qk_norm = "head" if cfg.qk_norm else "none"
    att = grouped(cfg, layer, qkv_bias=cfg.qkv_bias, qk_norm=qk_norm)
    ff = GatedFeedForward(cfg.emb_dim, cfg.ff_size)
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, drop_rate=cfg.drop_rate)


class QwenModel(DecoderModel):
    """Qwen language model: for each position the logits of every possible next token.

    Args:
        cfg: a `QwenConfig`, or a dict of its fields.
    """

    cfg: QwenConfig

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = QwenConfig.of(cfg)
        super().__init__(cfg, (qwen_block(cfg, layer) for layer in range(cfg.n_layers)))
