"""DeepSeek-V3: latent attention and mixtures of experts, the architecture "deepseek".

What it changes relative to Llama:
- keys and values of all heads come from one small vector per token, and the cache keeps only that
  (`latent_attention.py`)
- after the first layers, each token uses a few of many small feed-forward networks and a shared
  one; a bias that needs no gradient balances them (`mixture.py`)

Without the head for a second next token (multi-token prediction), which only training uses.
Tests: tests/model/test_deepseek.py (equal to transformers' DeepseekV3).
Source: DeepSeek-V3 Technical Report, 2024, https://arxiv.org/abs/2412.19437.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from llm_scratch.architectures.deepseek import DeepSeekConfig
from llm_scratch.model.decoder import DecoderBlock, DecoderModel
from llm_scratch.model.gated_ff import GatedFeedForward
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.latent_attention import LatentAttention, LatentSizes
from llm_scratch.model.mixture import MixtureOfExperts, Routing
from llm_scratch.model.norms import RMSNorm


def deepseek_block(cfg: DeepSeekConfig, layer: int) -> DecoderBlock:
    """The block of a layer: norm, latent attention, norm, plain network or mixture of experts."""
    sizes = LatentSizes(
        latent=cfg.latent_size,
        key=cfg.head_size,
        rotated=cfg.rotated_size,
        value=cfg.value_size,
        query_latent=cfg.query_latent_dim,
    )
    att = LatentAttention(
        cfg.emb_dim,
        cfg.n_heads,
        sizes,
        cfg.drop_rate,
        layer=layer,
        bias=cfg.attention_bias,
        scale=cfg.score_scale,
    )
    plain = layer < cfg.n_dense_layers
    ff = GatedFeedForward(cfg.emb_dim, cfg.ff_size) if plain else deepseek_mixture(cfg)
    norm = partial(RMSNorm, cfg.emb_dim, cfg.norm_eps)
    return DecoderBlock(att, ff, norm, drop_rate=cfg.drop_rate)


def deepseek_mixture(cfg: DeepSeekConfig) -> nn.Module:
    """The mixture of experts of a layer; the shared experts are one network of their widths."""
    routing = Routing(
        cfg.n_experts,
        cfg.experts_per_token,
        scores="sigmoid",
        normalize=cfg.normalize_weights,
        scale=cfg.weight_scale,
        n_groups=cfg.n_groups,
        n_chosen_groups=cfg.groups_per_token,
        balance_loss=cfg.balance_loss,
        balance_rate=cfg.balance_rate,
    )
    expert = partial(GatedFeedForward, cfg.emb_dim)
    shared = expert(cfg.n_shared_experts * cfg.expert_size) if cfg.n_shared_experts else None
    return MixtureOfExperts(cfg.emb_dim, routing, partial(expert, cfg.expert_size), shared)


class DeepSeekModel(DecoderModel):
    """DeepSeek-V3 language model: for each position the logits of every possible next token.

    Args:
        cfg: a `DeepSeekConfig`, or a dict of its fields.
    """

    cfg: DeepSeekConfig
    has_static_steps = False

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        cfg = DeepSeekConfig.of(cfg)
        super().__init__(cfg, (deepseek_block(cfg, layer) for layer in range(cfg.n_layers)))

    def cache_shape(self, batch_size: int) -> tuple[int, int, int, int, int]:
        """Shape of the cache: one latent vector and one rotated key for all heads."""
        cfg = self.cfg
        size = cfg.latent_size + cfg.rotated_size
        return cfg.n_layers, batch_size, 1, cfg.context_length, size

    def make_cache(self, batch_size: int, block: int | None, device: torch.device) -> KVCache:
        """A cache without values, which come from the latents."""
        shape = self.cache_shape(batch_size)
        return KVCache(shape, self.dtype, device, block, value_size=0)
