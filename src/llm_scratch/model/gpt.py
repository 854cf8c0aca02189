"""GPT-2 model: embeddings, transformer blocks, and an output head that gives logits.

It has:
- learned absolute positions, added to the token embeddings
- multi-head causal attention with a key/value cache (Vaswani et al. 2017,
  https://arxiv.org/abs/1706.03762)
- layer norm before each sublayer and at the end (pre-norm; Xiong et al. 2020,
  https://arxiv.org/abs/2002.04745)
- GELU, by its tanh approximation (Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415)
- dropout, and as options tied embeddings and biases of query, key and value
- GPT-2's initialization, or a mimetic one (`initialization.py`)

It lacks rotary positions, RMSNorm and QK-norm (`nanochat.py` has them),
grouped-query attention and a gated feed-forward network.

Parameter names and their order of creation are those of the notebooks, so a seed gives the same
weights and the notebooks' checkpoints load.
Tests: tests/model/test_gpt.py (equal to transformers' GPT2LMHeadModel, with and without a cache).
Lesson: lessons/step3_gpt.py.
Source: GPT-2, Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from llm_scratch.architectures import GPTConfig
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.initialization import initialize
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import LanguageModel
from llm_scratch.model.layers import FeedForward, LayerNorm


class TransformerBlock(nn.Module):
    """Transformer block: attention, then feed-forward, each with a residual connection (pre-norm).

    [B, T, C] -> [B, T, C].
    """

    def __init__(self, cfg: Mapping[str, Any], layer: int = 0) -> None:
        super().__init__()
        cfg = GPTConfig.of(cfg)
        C = cfg.emb_dim
        self.att = MultiHeadAttention(
            C,
            C,
            cfg.context_length,
            cfg.drop_rate,
            cfg.n_heads,
            cfg.qkv_bias,
            layer=layer,
            scale_by_layer=cfg.scale_attention_by_layer,
        )
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(C, cfg.norm_eps)
        self.norm2 = LayerNorm(C, cfg.norm_eps)
        self.drop_shortcut = Dropout(cfg.drop_rate)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Add attention, then the feed-forward network, each computed on normalized input."""
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache))  # [B, T, C]
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # [B, T, C]


class GPTModel(LanguageModel):
    """GPT-2 language model: for each position the logits of every possible next token.

    Args:
        cfg: a `GPTConfig`, or the notebooks' dict.
    """

    cfg: GPTConfig

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = cfg = GPTConfig.of(cfg)
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.pos_emb = nn.Embedding(cfg.context_length, cfg.emb_dim)
        self.drop_emb = Dropout(cfg.drop_rate)
        self.trf_blocks = nn.Sequential(
            *(TransformerBlock(cfg, layer) for layer in range(cfg.n_layers))
        )
        self.final_norm = LayerNorm(cfg.emb_dim, cfg.norm_eps)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size, bias=False)
        initialize(self, cfg.init)
        if cfg.tie_embeddings:
            self.out_head.weight = self.tok_emb.weight

    def hidden(self, in_idx: Tensor, cache: KVCache | None = None) -> Tensor:
        """Hidden states after the final norm, before the output head: [B, T] -> [B, T, C]."""
        pos = self.positions(in_idx, cache)
        x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(pos))  # [B, T, C]
        for block in self.trf_blocks:
            x = block(x, cache)  # [B, T, C]
        if cache is not None:
            cache.advance(in_idx.shape[1])
        return self.final_norm(x)  # [B, T, C]

    def crop_context(self, n: int) -> None:
        """Shorten the context to its first `n` positions, and drop the embeddings of the others."""
        super().crop_context(n)
        self.pos_emb = nn.Embedding.from_pretrained(
            self.pos_emb.weight.detach()[:n].clone(), freeze=False
        )
        for part in self.modules():
            if isinstance(part, MultiHeadAttention):
                part.context_length = n
