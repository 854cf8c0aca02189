"""Qwen3-MoE: a Qwen3 whose feed-forward networks are mixtures of experts: "qwen_moe".

What it changes relative to Llama:
- queries and keys are normalized, head by head (QK-norm)
- each token uses a few of many small feed-forward networks (`mixture.py`), so that parameters grow
  without more work per token

Tests: tests/model/test_qwen_moe.py (equal to transformers' Qwen3Moe).
Source: Qwen3 Technical Report, 2025, https://arxiv.org/abs/2505.09388.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from llm_scratch.architectures.qwen_moe import QwenMoEConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm


def qwen_moe_block(cfg: QwenMoEConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, attention, norm, mixture of experts."""
    bias = cfg.attention_bias
    att = grouped(cfg, layer, qkv_bias=bias, out_bias=bias, qk_norm="head")
    routing = Routing(
        cfg.n_experts,
        cfg.experts_per_token,
        normalize=cfg.normalize_weights,
        balance_loss=cfg.balance_loss,
    )
    ff = MixtureOfExperts(
        cfg.emb_dim, routing, partial(GatedFeedForward, cfg.emb_dim, cfg.expert_size)
    )
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, drop_rate=cfg.drop_rate)


class QwenMoEModel(DecoderModel):
    """Qwen3-MoE language model: for each position the logits of every possible next token.

    Args:
        cfg: a `QwenMoEConfig`, or a dict of its fields.
    """

    cfg: QwenMoEConfig
    has_static_steps = False

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = QwenMoEConfig.of(cfg)
        super().__init__(cfg, (qwen_moe_block(cfg, layer) for layer in range(cfg.n_layers)))
