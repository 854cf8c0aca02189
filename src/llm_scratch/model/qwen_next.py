"""Qwen3-Next: three of four layers have a memory of fixed size, the architecture "qwen_next".

What it changes relative to Llama:
- most layers are a Gated DeltaNet (`delta_net.py`), whose cost and memory do not grow with the text
- every few layers one is attention (`grouped_attention.py`), with normalized queries and keys, a
  quarter of each head rotated, and a gate on its output
- each token uses a few of many small feed-forward networks and a gated shared one (`mixture.py`)
- norms multiply by 1 + weight

Without the head for a second next token (multi-token prediction), which only training uses.
Tests: tests/model/test_qwen_next.py (equal to transformers' Qwen3Next).
Source: Qwen3-Next, https://qwen.ai/blog?id=4074cca80393150c248e508aa62983f9cb7d27cd; gates, Qiu et
al. 2025, https://arxiv.org/abs/2505.06708.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from llm_scratch.architectures.qwen_next import QwenNextConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel, grouped
from llm_scratch.model.delta_net import DeltaSizes, GatedDeltaNet
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.state_cache import StateCache


def token_mixer(cfg: QwenNextConfig, layer: int) -> nn.Module:
    """What mixes the tokens of a layer: attention in every `full_every`-th, else a delta rule."""
    n_attention = layer // cfg.full_every  # layers with attention below this one
    if (layer + 1) % cfg.full_every:
        sizes = DeltaSizes(
            cfg.key_heads, cfg.value_heads, cfg.key_size, cfg.value_size, cfg.conv_size
        )
        return GatedDeltaNet(cfg.emb_dim, sizes, cfg.norm_eps, layer - n_attention)
    return grouped(
        cfg,
        n_attention,
        qkv_bias=cfg.attention_bias,
        out_bias=cfg.attention_bias,
        qk_norm="head",
        unit_offset=True,
        output_gate=True,
    )


def qwen_next_block(cfg: QwenNextConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, delta rule or attention, norm, mixture of experts."""
    routing = Routing(
        cfg.n_experts,
        cfg.experts_per_token,
        normalize=cfg.normalize_weights,
        balance_loss=cfg.balance_loss,
    )
    expert = partial(GatedFeedForward, cfg.emb_dim)
    ff = MixtureOfExperts(
        cfg.emb_dim,
        routing,
        partial(expert, cfg.expert_size),
        shared=expert(cfg.shared_size),
        shared_gate=True,
    )
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps, unit_offset=True)
    return DecoderBlock(token_mixer(cfg, layer), ff, norm, drop_rate=cfg.drop_rate)


class QwenNextModel(DecoderModel):
    """Qwen3-Next language model: for each position the logits of every possible next token.

    Args:
        cfg: a `QwenNextConfig`, or a dict of its fields.
    """

    cfg: QwenNextConfig
    has_static_steps = False

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = QwenNextConfig.of(cfg)
        blocks = (qwen_next_block(cfg, layer) for layer in range(cfg.n_layers))
        super().__init__(cfg, blocks, RMSNorm(cfg.emb_dim, cfg.norm_eps, unit_offset=True))

    def cache_shape(self, batch_size: int) -> tuple[int, int, int, int, int]:
        """Shape of the keys and values, of the attention layers only."""
        layers, B, G, S, D = super().cache_shape(batch_size)
        return layers // self.cfg.full_every, B, G, S, D

    def make_cache(self, batch_size: int, block: int | None, device: torch.device) -> KVCache:
        """Keys and values of the attention layers, and the states of the others."""
        empty = torch.empty(0, dtype=self.dtype, device=device)
        states = [
            part.empty_state(batch_size, empty)
            for part in self.modules()
            if isinstance(part, GatedDeltaNet)
        ]
        shape = self.cache_shape(batch_size)
        return StateCache(shape, states, self.dtype, device, block)
