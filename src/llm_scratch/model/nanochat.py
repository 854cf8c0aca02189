"""NanoChat's transformer, the architecture "nanochat": reaches a loss in fewer steps than GPT-2.

It has, where `gpt.GPTModel` differs:
- rotary positions instead of learned ones (Su et al. 2021,
  https://arxiv.org/abs/2104.09864; `rope.py`)
- RMSNorm without weights, also after the embedding (Zhang and Sennrich 2019,
  https://arxiv.org/abs/1910.07467)
- normalized queries and keys, QK-norm (Henry et al. 2020, https://arxiv.org/abs/2010.04245)
- squared ReLU (So et al. 2021, https://arxiv.org/abs/2109.08668)
- no biases, and output projections that start at zero

It lacks NanoChat's logit softcap, grouped-query attention and sliding window.

Tests: tests/model/test_nanochat.py (equal to transformers' NanoChat).
Gain: `python benchmarks/converge.py`.
Source: NanoChat, https://github.com/karpathy/nanochat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.architectures import NanoChatConfig
from llm_scratch.model.attention import QKV, attend, qkv_projections
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import LanguageModel
from llm_scratch.model.rope import apply_rotary, rotary_angles

EPS = 1e-6  # avoids a division by zero for a vector of zeros

RotaryAngles = tuple[Tensor, Tensor]


def rms_norm(x: Tensor) -> Tensor:
    """RMS normalization: scale every vector to a mean square of 1. [..., C] -> [..., C]."""
    return F.rms_norm(x, x.shape[-1:], eps=EPS)


class NanoChatAttention(Fusable):
    """Causal attention with RMS-normalized, rotated queries and keys. [B, T, C] -> [B, T, C]."""

    fusable = QKV

    def __init__(self, cfg: NanoChatConfig, layer: int) -> None:
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


class NanoChatBlock(nn.Module):
    """Transformer block without biases and norm weights. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: NanoChatConfig, layer: int) -> None:
        super().__init__()
        C = cfg.emb_dim
        self.att = NanoChatAttention(cfg, layer)
        self.up_proj = nn.Linear(C, 4 * C, bias=False)
        self.down_proj = nn.Linear(4 * C, C, bias=False)
        self.drop_shortcut = Dropout(cfg.drop_rate)

    def forward(self, x: Tensor, angles: RotaryAngles, cache: KVCache | None = None) -> Tensor:
        """Add attention, then the feed-forward network; `angles` as in `NanoChatAttention`."""
        x = x + self.drop_shortcut(self.att(rms_norm(x), angles, cache))  # [B, T, C]
        hidden = self.up_proj(rms_norm(x)).relu().square()  # [B, T, F]
        return x + self.drop_shortcut(self.down_proj(hidden))  # [B, T, C]


class NanoChatGPT(LanguageModel):
    """NanoChat's language model, with the interface of `gpt.GPTModel`.

    Args:
        cfg: a `NanoChatConfig`, or a dict of its fields.
    """

    cfg: NanoChatConfig
    final_norm = staticmethod(rms_norm)

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = NanoChatConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        blocks = [NanoChatBlock(cfg, layer) for layer in range(cfg.n_layers)]
        self.trf_blocks = nn.Sequential(*blocks)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        for block in blocks:
            nn.init.zeros_(block.att.out_proj.weight)
            nn.init.zeros_(block.down_proj.weight)
        if cfg.tie_embeddings:
            nn.init.normal_(self.tok_emb.weight, std=0.02)
            self.out_head.weight = self.tok_emb.weight
        else:
            nn.init.zeros_(self.out_head.weight)

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C]."""
        angles = rotary_angles(self.positions(in_idx, cache), self.cfg.emb_dim // self.cfg.n_heads)
        x = rms_norm(self.drop_emb(self.tok_emb(in_idx)))  # [B, T, C]
        for block in self.trf_blocks:
            x = block(x, angles, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(in_idx.shape[1])
        return self.final_norm(x)  # [B, T, C]
