"""Causal multi-head attention: each token mixes the values of itself and earlier tokens.

`attention_weights` is the formula, `attend` chooses between the formula and a kernel, and
`MultiHeadAttention` adds the projections, the heads and the cache.
Tests: tests/model/test_attention.py (formula and kernels agree). Lesson:
lessons/step2_attention.py.
Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.blocked_attention import blocked_attention
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.kv_cache import KVCache

MIN_BLOCKED_LENGTH = 192  # tokens from which blocks of queries are faster than the whole table
MAX_FORMULA_LENGTH = 512  # tokens up to which the formula is faster than the kernel on a CPU
MAX_SUMMED_LENGTH = 2048  # cached tokens up to which two sums are faster for one new token


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) with a causal mask. q, k: [B, H, T, D] -> [B, H, T, T].

    Rows sum to 1.
    """
    return attention_scores(q, k).softmax(-1)  # [B, H, T, T]


def attention_scores(q: Tensor, k: Tensor) -> Tensor:
    """q k^T / sqrt(D), -inf for later positions. q, k: [B, H, T, D] -> [B, H, T, T]."""
    B, H, T, D = q.shape
    future = torch.full((T, T), float("-inf"), dtype=q.dtype, device=q.device).triu(1)  # [T, T]
    # product, scale and mask in one pass
    scores = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=D**-0.5)
    return scores.view(B, H, T, T)  # [B, H, T, T]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: Dropout) -> Tensor:
    """Scaled dot-product attention, by the formula or by the fastest kernel for the shape.

    A fused kernel does not store the table of weights; it is fastest on a GPU and for long
    sequences. On a CPU the formula is faster for short ones, and the kernel has no dropout.
    A single new token is faster by two sums (`decode_attention`), unless the text is long: their
    terms are as large as the cache.

    Args:
        q, k, v: [B, H, T, D], [B, H, S, D], [B, H, S, D].
        mask: positions that each new token may attend to, as from `KVCache.mask`; None: causal.
        dropout: applied to the weights while training. While it has observers, the formula is used.
    Returns:
        [B, H, T, D].
    """
    if dropout.observers:
        return observed_attention(q, k, v, mask, dropout)
    T = q.shape[2]
    p = dropout.p if dropout.training else 0.0
    by_sums = torch.compiler.is_exporting() or k.shape[2] <= MAX_SUMMED_LENGTH
    if T == 1 and q.device.type == "cpu" and not p and by_sums:
        return decode_attention(q, k, v, mask)
    if (
        q.device.type == "cpu"
        and mask is None
        and k.shape[2] == T
        and (p or T <= MAX_FORMULA_LENGTH)
    ):
        if (
            dropout.fast
            and dropout.training
            and T >= MIN_BLOCKED_LENGTH
            and not torch.compiler.is_compiling()
        ):
            return blocked_attention(q, k, v, p)
        return dropout(attention_weights(q, k)) @ v
    return kernel_attention(q, k, v, mask, p)


def kernel_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """`attend` by PyTorch's kernel, with values of another size than keys too; p: of dropout.

    Fused kernels are written for a single size, and on an Apple GPU torch before 2.12 gave wrong
    values for two (https://github.com/pytorch/pytorch/issues/176767). Zeros make them equal.
    """
    kernel = partial(
        F.scaled_dot_product_attention,
        attn_mask=mask,
        is_causal=mask is None and q.shape[2] > 1,
        dropout_p=p,
    )
    key_size, value_size = q.shape[-1], v.shape[-1]
    if key_size == value_size:
        return kernel(q, k, v)
    size = max(key_size, value_size)
    q, k, v = (x if x.shape[-1] == size else F.pad(x, (0, size - x.shape[-1])) for x in (q, k, v))
    return kernel(q, k, v, scale=key_size**-0.5)[..., :value_size]


def decode_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one new token, [B, H, 1, D], as a sum over k and a sum over v in float32."""
    scores = (k * (q.float() * q.shape[-1] ** -0.5)).sum(-1)  # [B, H, S]
    if mask is not None:
        scores = scores.masked_fill(~mask[..., 0, :], float("-inf"))
    return (v * scores.softmax(-1)[..., None]).sum(2, keepdim=True).type_as(q)  # [B, H, 1, D]


def observed_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: Dropout
) -> Tensor:
    """`attend` by the formula, with each step shown to the observers of `dropout`.

    The steps have TransformerLens's names: `rot_q` and `rot_k` are the queries and keys after any
    rotation, [B, H, T, D] and [B, H, S, D]; `attn_scores` and `pattern` are [B, H, T, S].
    """
    q, k = dropout.observe("rot_q", q), dropout.observe("rot_k", k)
    if mask is None and q.shape[2] == k.shape[2]:
        scores = attention_scores(q, k)
    else:
        scores = q @ k.mT * q.shape[-1] ** -0.5
        scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
    scores = dropout.observe("attn_scores", scores)
    return dropout(dropout.observe("pattern", scores.softmax(-1))) @ v


QKV = ("W_query", "W_key", "W_value")


def qkv_projections(att: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value projections: [B, T, C] -> three of [B, H, T, D].

    Args:
        att: an attention module whose layers `QKV` are `fusable`.
        x: [B, T, C].
    """
    heads = (*x.shape[:2], att.num_heads, att.head_dim)
    return tuple(y.view(heads).transpose(1, 2) for y in att.project(x))


class MultiHeadAttention(Fusable):
    """Causal multi-head attention with an output projection. [B, T, d_in] -> [B, T, d_out].

    Args:
        d_in: size of the input vectors.
        d_out: size of the output vectors (C); a multiple of num_heads.
        context_length: longest sequence; kept for the notebooks' signature and for `mask`.
        dropout: probability of dropping an attention weight during training.
        num_heads: H.
        qkv_bias: whether the query, key and value projections have a bias.
        layer: index of this layer in the cache.
        scale_by_layer: divide the scores by `layer + 1`.
    Raises:
        ValueError: d_out is not a multiple of num_heads.
    """

    fusable = QKV

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        *,
        layer: int = 0,
        scale_by_layer: bool = False,
    ) -> None:
        super().__init__()
        if d_out % num_heads:
            raise ValueError(
                f"attention: d_out={d_out} is not a multiple of num_heads={num_heads};"
                " change one of them"
            )
        self.num_heads = num_heads
        self.head_dim = d_out // num_heads
        self.context_length = context_length
        self.layer = layer
        self.score_divisor: float = layer + 1 if scale_by_layer else 1
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = Dropout(dropout)

    @property
    def mask(self) -> Tensor:
        """Causal mask [context_length, context_length], 1 for future positions; read-only."""
        return torch.ones(self.context_length, self.context_length).triu(1)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """[B, T, d_in] -> [B, T, d_out]; with a cache, its tokens are attended to as well."""
        B, T, _ = x.shape
        q, k, v = qkv_projections(self, x)  # [B, H, T, D] each
        if self.score_divisor != 1:
            q = q / self.score_divisor  # [B, H, T, D]
        mask = None
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # [B, H, S, D]
            mask = cache.mask(T)
        y = attend(q, k, v, mask, self.dropout)  # [B, H, T, D]
        return self.out_proj(y.transpose(1, 2).reshape(B, T, -1))  # [B, T, C]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        state_dict.pop(f"{prefix}mask", None)  # a buffer in the notebooks' checkpoints
        super()._load_from_state_dict(state_dict, prefix, *args)
