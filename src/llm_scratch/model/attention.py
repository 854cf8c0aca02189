"""Causal multi-head attention: each token gathers from the tokens before it.

Read `attention_weights` for the formula, `attend` for which of formula and kernel runs, `MultiHeadAttention` for what is around it.
Proof that they agree: tests/model/test_attention.py. Lesson: lessons/step2_attention.py.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.blocked_attention import blocked_attention
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.kv_cache import KVCache

MIN_BLOCKED_LENGTH = 192  # tokens in a row from which blocks of queries are faster than the whole table
MAX_FORMULA_LENGTH = 512  # tokens in a row up to which the formula is faster than the kernel on a CPU


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) with the future hidden. q, k: [B, H, T, D] -> [B, H, T, T], rows sum to 1."""
    B, H, T, D = q.shape
    future = torch.full((T, T), float("-inf"), dtype=q.dtype, device=q.device).triu(1)  # [T, T]
    scores = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=D**-0.5)  # product, scale and mask at once
    return scores.softmax(-1).view(B, H, T, T)  # [B, H, T, T]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
    """Each token's mixture of the values that it may look at: `attention_weights`, dropout, times v; or the kernel that does it all.

    A kernel never writes the table of weights out, and on a GPU, and for long rows, nothing is faster. On a CPU it pays from about a
    thousand tokens on, and it knows no dropout: there, the formula is what is fastest. While writing, when one new token looks at all
    tokens so far, both are slower than two plain sums (`look_back`).

    Args:
        q, k, v: [B, H, T, D], [B, H, S, D], [B, H, S, D].
        mask: which of the seen tokens each new one may look at, as `KVCache.mask` gives it; None: itself and those before it.
    Returns:
        [B, H, T, D].
    """
    T, p = q.shape[2], dropout.p if dropout.training else 0.0
    if T == 1 and q.device.type == "cpu" and not p:
        return decode_attention(q, k, v, mask)
    if q.device.type == "cpu" and mask is None and k.shape[2] == T and (p or T <= MAX_FORMULA_LENGTH):
        if dropout.fast and dropout.training and T >= MIN_BLOCKED_LENGTH and not torch.compiler.is_compiling():
            return blocked_attention(q, k, v, p)
        return dropout(attention_weights(q, k)) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None and T > 1, dropout_p=p)


def decode_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` for one new token, [B, H, 1, D]: a row of weights is a sum over k, and what it finds a sum over v; in float32."""
    scores = (k * (q.float() * q.shape[-1] ** -0.5)).sum(-1)  # [B, H, S]
    if mask is not None:
        scores = scores.masked_fill(~mask[:, :, 0], float("-inf"))
    return (v * scores.softmax(-1)[..., None]).sum(2, keepdim=True).type_as(q)  # [B, H, 1, D]


def qkv_projections(att: Any, x: Tensor) -> tuple[Tensor, ...]:
    """What each token asks, by what it can be found, and what it then tells: queries, keys, values, [B, T, C] -> three [B, H, T, D]."""
    B, T, _ = x.shape
    if att.fused_qkv is not None:  # for writing, `packed.pack` has made one matrix of the three
        return att.fused_qkv(x).view(B, T, 3, att.num_heads, att.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    heads = (B, T, att.num_heads, att.head_dim)
    return tuple(W(x).view(heads).transpose(1, 2) for W in (att.W_query, att.W_key, att.W_value))


class MultiHeadAttention(nn.Module):
    """Several heads look back at once, each with its own question; their findings are joined and mixed.

    Args:
        d_in: size of a token coming in.
        d_out: size going out (C); a multiple of num_heads.
        context_length: longest sequence; kept for the notebooks' signature and for `mask`.
        dropout: share of attention weights set to 0 while training.
        num_heads: H.
        qkv_bias: whether the three projections have a bias.
        layer: which slot of the cache is this layer's.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, num_heads: int, qkv_bias: bool = False, *, layer: int = 0
    ) -> None:
        super().__init__()
        if d_out % num_heads:
            raise ValueError(f"d_out={d_out} is not a multiple of num_heads={num_heads}")
        self.num_heads, self.head_dim, self.context_length, self.layer = num_heads, d_out // num_heads, context_length, layer
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = Dropout(dropout)
        self.fused_qkv: nn.Module | None = None  # see `qkv_projections`

    @property
    def mask(self) -> Tensor:
        """1 where a token may not look (the future): [context_length, context_length]. To read only; the kernel needs no table."""
        return torch.ones(self.context_length, self.context_length).triu(1)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """[B, T, d_in] -> [B, T, d_out]; with a cache, the tokens in it are looked at too."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)  # [B, H, T, D] each
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # [B, H, S, D]
            mask = cache.mask(T)
        y = attend(q, k, v, mask, self.dropout)  # [B, H, T, D]
        return self.out_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, C]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}mask", None)  # the notebooks' checkpoints hold the mask as a table
        super()._load_from_state_dict(state_dict, prefix, *args)
