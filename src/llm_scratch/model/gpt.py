"""GPT-2 model: embeddings, transformer blocks, and an output head that gives logits.

It has:
- learned absolute positions, added to the token embeddings
- multi-head causal attention with a key/value cache (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)
- layer norm before each sublayer and at the end (pre-norm; Xiong et al. 2020, https://arxiv.org/abs/2002.04745)
- GELU, by its tanh approximation (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)
- dropout, and as options tied embeddings and biases of query, key and value
- GPT-2's initialization, or a mimetic one (Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828)

It lacks rotary positions, RMSNorm and QK-norm (`nanochat.py` has them), grouped-query attention and a
gated feed-forward network.

Parameter names and their order of creation are those of the notebooks, so a seed gives the same
weights and the notebooks' checkpoints load.
Tests: tests/model/test_gpt.py (equal to transformers' GPT2LMHeadModel, with and without a cache).
Lesson: lessons/step3_gpt.py.
Source: GPT-2, Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.layers import FeedForward, LayerNorm


class TransformerBlock(nn.Module):
    """Transformer block: attention, then feed-forward, each with a residual connection (pre-norm).

    [B, T, C] -> [B, T, C].
    """

    def __init__(self, cfg: Mapping[str, Any], layer: int = 0) -> None:
        super().__init__()
        C, drop = cfg["emb_dim"], cfg["drop_rate"]
        self.att = MultiHeadAttention(C, C, cfg["context_length"], drop, cfg["n_heads"], cfg["qkv_bias"], layer=layer)
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(C)
        self.norm2 = LayerNorm(C)
        self.drop_shortcut = Dropout(drop)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Add attention, then the feed-forward network, each computed on normalized input."""
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache))  # [B, T, C]
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # [B, T, C]


class GPTModel(nn.Module):
    """GPT-2 language model: for each position the logits of every possible next token.

    Args:
        cfg: a `ModelConfig`, or the notebooks' dict.
    Attributes:
        start_id: the token that every training row began with, or None; `stream` puts it before
            each prompt.
    """

    start_id: int | None = None

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = ModelConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*(TransformerBlock(cfg, layer) for layer in range(cfg.n_layers)))
        self.final_norm = LayerNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        if cfg.init != "torch":
            gpt2_init(self)
        if cfg.init == "mimetic":
            mimetic_init(self)
        if cfg.tie_embeddings:
            self.out_head.weight = self.tok_emb.weight

    def forward(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V]; with a cache, `in_idx` holds the new tokens only.

        Raises:
            ValueError: more tokens than context_length.
        """
        return self.out_head(self.hidden(in_idx, cache))  # [B, T, V]

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C].

        Generation needs the logits of the last position only. The head, the largest matrix of a
        small GPT, then multiplies one row.
        """
        B, T = in_idx.shape
        start = 0 if cache is None else cache.pos
        if start + T > self.cfg.context_length:
            raise ValueError(f"{start + T} tokens do not fit context_length={self.cfg.context_length}")
        pos = torch.arange(T, device=in_idx.device) if cache is None else cache.positions(T)
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(pos))  # [B, T, C]
        for block in self.trf_blocks:
            x = block(x, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(T)
        return self.final_norm(x)  # [B, T, C]

    def new_cache(self, batch_size: int, block: int | None = 256) -> KVCache:
        """Create an empty cache for `batch_size` sequences; `block` as in `KVCache`."""
        cfg, weight = self.cfg, self.pos_emb.weight
        shape = (
            cfg.n_layers,
            batch_size,
            cfg.n_heads,
            cfg.context_length,
            cfg.emb_dim // cfg.n_heads,
        )
        return KVCache(shape, weight.dtype, weight.device, block)


def gpt2_init(model: nn.Module) -> None:
    """Initialize weights as GPT-2: normal(0, 0.02), biases 0, residual projections scaled down.

    Each layer adds to the residual stream twice; a factor 1 / sqrt(2 layers) keeps its variance.
    Source: GPT-2, section 2.3.
    """
    parts = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    for part in parts:
        nn.init.normal_(part.weight, std=0.02)
        if getattr(part, "bias", None) is not None:
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    blocks = [m for m in model.modules() if isinstance(m, TransformerBlock)]
    for block in blocks:
        for last in (block.att.out_proj, block.ff.layers[-1]):
            nn.init.normal_(last.weight, std=0.02 / (2 * len(blocks)) ** 0.5)  # type: ignore[arg-type]


def mimetic_init(model: nn.Module, share: float = 0.3) -> None:
    """Initialize attention to copy: out_proj is `share` times the inverse of W_value.

    W_value is a random rotation. With ordinary weights a head must learn where to attend and how to
    pass on the value at the same time. Here the second is given, and the model learns to recall
    tokens in far fewer steps.
    Source: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers",
    https://arxiv.org/abs/2305.09828.
    """
    for block in (m for m in model.modules() if isinstance(m, TransformerBlock)):
        nn.init.orthogonal_(block.att.W_value.weight)
        with torch.no_grad():
            block.att.out_proj.weight.copy_(share * block.att.W_value.weight.T)


class DummyTransformerBlock(nn.Module):
    """Placeholder block for lesson 3: the identity. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        return x


class DummyLayerNorm(nn.Module):
    """Placeholder layer norm for lesson 3: the identity. [..., C] -> [..., C]."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        return x


class DummyGPTModel(nn.Module):
    """Outline of a GPT for lesson 3: real embeddings and head, placeholder blocks and norm.

    [B, T] -> [B, T, V].
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = ModelConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = nn.Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(*(DummyTransformerBlock(cfg) for _ in range(cfg.n_layers)))
        self.final_norm = DummyLayerNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)

    def forward(self, in_idx: Tensor) -> Tensor:
        """Token ids [B, T] -> logits [B, T, V]."""
        pos = torch.arange(in_idx.shape[1], device=in_idx.device)  # [T]
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(pos))  # [B, T, C]
        return self.out_head(self.final_norm(self.trf_blocks(x)))  # [B, T, V]
