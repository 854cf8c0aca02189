"""The "modern" architecture, NanoChat's transformer: reaches a loss in fewer steps than GPT-2.

Differences from `gpt.GPTModel`: rotary instead of learned positions, RMSNorm without weights,
normalized queries and keys (QK-norm), squared ReLU, no biases, and blocks whose output projections
start at zero. Without NanoChat's logit softcap and grouped-query attention.
Tests: tests/model/test_nanochat.py (equal to transformers' NanoChat).
Gain: `python benchmarks/converge.py`.
Source: RMSNorm, Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467; QK-norm, Henry et al.
2020, https://arxiv.org/abs/2010.04245; squared ReLU, So et al. 2021,
https://arxiv.org/abs/2109.08668; rotary positions, see `rope.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.model.attention import attend, qkv_projections
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.introspection import device_of
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.rope import apply_rotary, rotary_angles

EPS = 1e-6  # avoids a division by zero for a vector of zeros

RotaryAngles = tuple[Tensor, Tensor]


def rms_norm(x: Tensor) -> Tensor:
    """RMS normalization: scale every vector to a mean square of 1. [..., C] -> [..., C]."""
    return F.rms_norm(x, x.shape[-1:], eps=EPS)


class ModernAttention(nn.Module):
    """Causal attention with RMS-normalized, rotated queries and keys. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        C = cfg.emb_dim
        self.num_heads = cfg.n_heads
        self.head_dim = C // cfg.n_heads
        self.layer = layer
        self.W_query = nn.Linear(C, C, bias=False)
        self.W_key = nn.Linear(C, C, bias=False)
        self.W_value = nn.Linear(C, C, bias=False)
        self.out_proj = nn.Linear(C, C, bias=False)
        self.dropout = Dropout(cfg.drop_rate)
        self.fused_qkv: nn.Module | None = None  # see `attention.qkv_projections`

    def forward(self, x: Tensor, angles: RotaryAngles, cache: KVCache | None = None) -> Tensor:
        """Attend; `angles` as from `rotary_angles` for the positions of x."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)
        q, k = apply_rotary(rms_norm(torch.stack([q, k])), angles).type_as(v)  # [B, H, T, D] each
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # [B, H, S, D] each
            mask = cache.mask(T)
        y = attend(q, k, v, mask, self.dropout)  # [B, H, T, D]
        return self.out_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, C]


class ModernBlock(nn.Module):
    """Transformer block without biases and norm weights. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        C = cfg.emb_dim
        self.att = ModernAttention(cfg, layer)
        self.up_proj = nn.Linear(C, 4 * C, bias=False)
        self.down_proj = nn.Linear(4 * C, C, bias=False)
        self.drop_shortcut = Dropout(cfg.drop_rate)

    def forward(self, x: Tensor, angles: RotaryAngles, cache: KVCache | None = None) -> Tensor:
        """Add attention, then the feed-forward network; `angles` as in `ModernAttention`."""
        x = x + self.drop_shortcut(self.att(rms_norm(x), angles, cache))  # [B, T, C]
        hidden = self.up_proj(rms_norm(x)).relu().square()  # [B, T, F]
        return x + self.drop_shortcut(self.down_proj(hidden))  # [B, T, C]


class NanoChatGPT(nn.Module):
    """Language model of the architecture "modern", with the interface of `gpt.GPTModel`.

    Raises:
        UserError: a setting that the architecture lacks (`qkv_bias`, an `init` other than "torch",
            an odd head size).
    """

    start_id: int | None = None
    final_norm = staticmethod(rms_norm)

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = ModelConfig.of(cfg)
        for name, value, required in (
            ("qkv_bias", cfg.qkv_bias, False),
            ("init", cfg.init, "torch"),
        ):
            if value != required:
                raise UserError(f"architecture 'nanochat': {name}={value} is not supported; use {name}={required}")
        head_dim = cfg.emb_dim // cfg.n_heads
        if head_dim % 2:
            raise UserError(f"n_heads: a head size of {head_dim} is odd; choose n_heads so that it is even")
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*(ModernBlock(cfg, layer) for layer in range(cfg.n_layers)))
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        for block in self.trf_blocks:
            nn.init.zeros_(block.att.out_proj.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(block.down_proj.weight)  # type: ignore[union-attr, arg-type]
        if cfg.tie_embeddings:
            nn.init.normal_(self.tok_emb.weight, std=0.02)
            self.out_head.weight = self.tok_emb.weight
        else:
            nn.init.zeros_(self.out_head.weight)

    def forward(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V]; with a cache, `in_idx` holds the new tokens only.

        Raises:
            ValueError: more tokens than context_length.
        """
        return self.out_head(self.hidden(in_idx, cache))  # [B, T, V]

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C]."""
        T = in_idx.shape[1]
        start = 0 if cache is None else cache.pos
        if start + T > self.cfg.context_length:
            raise ValueError(f"{start + T} tokens do not fit context_length={self.cfg.context_length}")
        positions = torch.arange(T, device=in_idx.device) if cache is None else cache.positions(T)
        angles = rotary_angles(positions, self.cfg.emb_dim // self.cfg.n_heads)
        x = rms_norm(self.drop_emb(self.tok_emb(in_idx)))  # [B, T, C]
        for block in self.trf_blocks:
            x = block(x, angles, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x)  # [B, T, C]

    def new_cache(self, batch_size: int, block: int | None = 256) -> KVCache:
        """Create an empty cache for `batch_size` sequences; `block` as in `KVCache`."""
        cfg = self.cfg
        shape = (
            cfg.n_layers,
            batch_size,
            cfg.n_heads,
            cfg.context_length,
            cfg.emb_dim // cfg.n_heads,
        )
        weight = next(self.parameters(), None)  # None: all matrices are quantized
        dtype = torch.float32 if weight is None else weight.dtype
        return KVCache(shape, dtype, device_of(self), block)
