"""A GPT as it would be built today: it comes to the same loss sooner than GPT-2's block does.

Against `gpt.GPTModel`: rotary positions in place of learned ones, norms without weights (RMSNorm), queries and keys of one size
("QK-norm"), a squared ReLU for the bend, no biases, and blocks that at first add nothing. Read the two files side by side.
Proof: tests/model/test_nanochat.py (equal to transformers' NanoChat, of the same parts). Gain: `python benchmarks/converge.py`.
Source: rotary positions, `rope.py`; RMSNorm, Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467; QK-norm, Henry et al. 2020,
https://arxiv.org/abs/2010.04245; squared ReLU, So et al. 2021, https://arxiv.org/abs/2109.08668.
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

EPS = 1e-6  # keeps a vector of zeros from a division by zero

RotaryAngles = tuple[Tensor, Tensor]


def rms_norm(x: Tensor) -> Tensor:
    """Every vector stretched to a mean square of 1. [..., C] -> [..., C]."""
    return F.rms_norm(x, x.shape[-1:], eps=EPS)


class ModernAttention(nn.Module):
    """Causal attention whose queries and keys are normalised, then turned by their place. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        C = cfg.emb_dim
        self.num_heads, self.head_dim, self.layer = cfg.n_heads, C // cfg.n_heads, layer
        self.W_query, self.W_key, self.W_value, self.out_proj = (nn.Linear(C, C, bias=False) for _ in range(4))
        self.dropout = Dropout(cfg.drop_rate)
        self.fused_qkv: nn.Module | None = None  # see `attention.qkv_projections`

    def forward(self, x: Tensor, turn: RotaryAngles, cache: KVCache | None = None) -> Tensor:
        """`turn` as `rope.angles` gives it for the places of x."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)
        q, k = apply_rotary(rms_norm(torch.stack([q, k])), turn).type_as(v)  # [B, H, T, D] each
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # [B, H, S, D] each
            mask = cache.mask(T)
        y = attend(q, k, v, mask, self.dropout)  # [B, H, T, D]
        return self.out_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, C]


class ModernBlock(nn.Module):
    """Look, then think, each added to what was there; `gpt.TransformerBlock` without a weight outside its matrices. [B, T, C] -> same."""

    def __init__(self, cfg: ModelConfig, layer: int) -> None:
        super().__init__()
        C = cfg.emb_dim
        self.att = ModernAttention(cfg, layer)
        self.widen, self.narrow = nn.Linear(C, 4 * C, bias=False), nn.Linear(4 * C, C, bias=False)
        self.drop_shortcut = Dropout(cfg.drop_rate)

    def forward(self, x: Tensor, turn: RotaryAngles, cache: KVCache | None = None) -> Tensor:
        """`turn` as in `ModernAttention`."""
        x = x + self.drop_shortcut(self.att(rms_norm(x), turn, cache))  # [B, T, C]
        return x + self.drop_shortcut(self.narrow(self.widen(rms_norm(x)).relu().square()))  # [B, T, C]


class ModernGPT(nn.Module):
    """Reads token ids, gives the scores of every token that could come next; the interface is `gpt.GPTModel`'s.

    Raises:
        UserError: a setting that it has no place for (`qkv_bias`, an `init` other than its own, heads of odd size).
    """

    start_id: int | None = None

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = ModelConfig.of(cfg)
        for name, value, works in (("qkv_bias", cfg.qkv_bias, False), ("init", cfg.init, "torch")):
            if value != works:
                raise UserError(f"the architecture 'modern' has no {name}={value}; leave it at {works}")
        if cfg.emb_dim // cfg.n_heads % 2:
            raise UserError(f"heads of {cfg.emb_dim // cfg.n_heads} numbers do not divide into pairs; choose n_heads so that they are even")
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*(ModernBlock(cfg, layer) for layer in range(cfg.n_layers)))
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        for block in self.trf_blocks:
            nn.init.zeros_(block.att.out_proj.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(block.narrow.weight)  # type: ignore[union-attr, arg-type]
        if cfg.tie_embeddings:
            nn.init.normal_(self.tok_emb.weight, std=0.02)
            self.out_head.weight = self.tok_emb.weight
        else:
            nn.init.zeros_(self.out_head.weight)

    def forward(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V]; with a cache, `in_idx` holds only the tokens that are not in it yet.

        Raises:
            ValueError: more tokens than context_length.
        """
        return self.out_head(self.hidden(in_idx, cache))  # [B, T, V]

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """What the model has made of each token before the head turns it into scores: [B, T] -> [B, T, C]."""
        T, start = in_idx.shape[1], 0 if cache is None else cache.pos
        if start + T > self.cfg.context_length:
            raise ValueError(f"{start + T} tokens do not fit context_length={self.cfg.context_length}")
        places = torch.arange(T, device=in_idx.device) if cache is None else cache.positions(T)
        turn = rotary_angles(places, self.cfg.emb_dim // self.cfg.n_heads)
        x = rms_norm(self.drop_emb(self.tok_emb(in_idx)))  # [B, T, C]
        for block in self.trf_blocks:
            x = block(x, turn, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(T)
        return rms_norm(x)  # [B, T, C]

    def new_cache(self, batch_size: int, block: int | None = 256) -> KVCache:
        """An empty cache for `batch_size` sequences of up to context_length tokens; `block` as in `KVCache`."""
        cfg, weight = self.cfg, next(self.parameters(), None)
        shape = (cfg.n_layers, batch_size, cfg.n_heads, cfg.context_length, cfg.emb_dim // cfg.n_heads)
        return KVCache(shape, torch.float32 if weight is None else weight.dtype, device_of(self), block)  # None: all in few bits
