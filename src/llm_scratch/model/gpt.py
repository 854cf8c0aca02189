"""The GPT model: embeddings, a stack of blocks, and a head that scores every possible next token.

`GPTModel.forward` reads as the drawing in the paper. Parameter names and the order in which they are made are the
notebooks', so that a seed gives their numbers and their checkpoints load.
Proof: tests/model/test_gpt.py (equal to transformers' GPT2LMHeadModel, with and without cache). Lesson: lessons/step3_gpt.py.
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
    """One round of thought: look at the other tokens, then think alone; each adds to what was there. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: Mapping[str, Any], layer: int = 0) -> None:
        super().__init__()
        C, drop = cfg["emb_dim"], cfg["drop_rate"]
        self.att = MultiHeadAttention(C, C, cfg["context_length"], drop, cfg["n_heads"], cfg["qkv_bias"], layer=layer)
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(C)
        self.norm2 = LayerNorm(C)
        self.drop_shortcut = Dropout(drop)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Norm first ("pre-LN"), then the part, then the shortcut."""
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache))  # [B, T, C]
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # [B, T, C]


class GPTModel(nn.Module):
    """Reads token ids, gives for each place the scores (logits) of every token that could come next.

    Args:
        cfg: a `ModelConfig` or the notebooks' dict.
    Attributes:
        start_id: the token that every row of its training began with, if there is one; `stream` puts it before a prompt.
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
        """Token ids [B, T] -> logits [B, T, V]; with a cache, `in_idx` holds only the tokens that are not in it yet.

        Raises:
            ValueError: more tokens than context_length.
        """
        return self.out_head(self.hidden(in_idx, cache))  # [B, T, V]

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """What the model has made of each token before the head turns it into scores: [B, T] -> [B, T, C].

        To continue a text only the last token's scores are needed: the head, the largest matrix of a small GPT, then reads one row.
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
        """An empty cache for `batch_size` sequences of up to context_length tokens; `block` as in `KVCache`."""
        cfg, weight = self.cfg, self.pos_emb.weight
        shape = (cfg.n_layers, batch_size, cfg.n_heads, cfg.context_length, cfg.emb_dim // cfg.n_heads)
        return KVCache(shape, weight.dtype, weight.device, block)


def gpt2_init(model: nn.Module) -> None:
    """GPT-2's first weights: normal(0, 0.02), biases 0, and what is added to the residual stream scaled by 1/sqrt(2 layers).

    Source: GPT-2, section 2.3. Each layer adds twice to the stream, so the scale keeps its size at the end.
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
    """Let attention copy from the start: value and output projections undo each other, so what a head looks at is what it adds.

    A model of ordinary first weights must find out at once where to look and how to pass on what it sees, and neither pays alone;
    here the second is given, and recall is learned many times sooner. W_value is a random rotation Q, out_proj is `share` x its transpose.
    Source: Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers", https://arxiv.org/abs/2305.09828.
    """
    for block in (m for m in model.modules() if isinstance(m, TransformerBlock)):
        nn.init.orthogonal_(block.att.W_value.weight)
        with torch.no_grad():
            block.att.out_proj.weight.copy_(share * block.att.W_value.weight.T)


class DummyTransformerBlock(nn.Module):
    """A block that does nothing: lesson 3 begins with the outline and fills it in. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x as it came."""
        return x


class DummyLayerNorm(nn.Module):
    """A normalisation that does nothing. [..., C] -> [..., C]."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """x as it came."""
        return x


class DummyGPTModel(nn.Module):
    """The outline of a GPT without its thoughts: embeddings and head are real, blocks and norm do nothing. [B, T] -> [B, T, V]."""

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
