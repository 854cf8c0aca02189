"""Grouped-query attention: several query heads share the keys and values of one head.

H query heads and G key/value heads; query head h reads key/value head h // (H / G). The cache is
H / G times smaller. With G = H it is `attention.MultiHeadAttention` without its output bias, with
G = 1 it is multi-query attention. Arguments add what current models use: QK-norm, a sliding window,
soft-capped scores, sinks, rotary positions or none.
Tests: tests/model/test_grouped_attention.py (equal to multi-head attention with repeated heads, and
each argument to its formula).
Source: Ainslie et al. 2023, "GQA", https://arxiv.org/abs/2305.13245.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from llm_scratch.model.attention import QKV, attend
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import RotaryAngles, apply_rotary

QKNorm = Literal["none", "head", "whole"]


class GroupedAttention(Fusable):
    """Causal grouped-query attention with an output projection. [B, T, C] -> [B, T, C].

    Args:
        emb_dim: C.
        n_heads: H, query heads.
        n_kv_heads: G, key/value heads; a divisor of H.
        head_dim: D; H D may differ from C.
        layer: index of this layer in the cache.
        drop_rate: probability of dropping an attention weight during training.
        qkv_bias, out_bias: whether the projections have a bias.
        qk_norm: RMS-normalize queries and keys: "head" by head, "whole" across all heads
            (https://arxiv.org/abs/2010.04245).
        norm_eps, unit_offset: of QK-norm, as in `RMSNorm`.
        window: attend only to the last `window` tokens, the new one included; None: to all
            (https://arxiv.org/abs/2004.05150, section 3.1).
        scale: factor of the scores; None: 1 / sqrt(D).
        softcap: limit scores to (-softcap, softcap) by softcap * tanh(score / softcap); None: no
            limit (https://arxiv.org/abs/2408.00118).
        sinks: a learned score a head for attending to nothing
            (https://arxiv.org/abs/2309.17453).
        output_gate: multiply the mixed values by sigmoid(W x) before the output projection
            (https://arxiv.org/abs/2505.06708).
    """

    def __init__(
        self,
        emb_dim: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        layer: int = 0,
        drop_rate: float = 0.0,
        qkv_bias: bool = False,
        out_bias: bool = False,
        qk_norm: QKNorm = "none",
        norm_eps: float = 1e-6,
        unit_offset: bool = False,
        window: int | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: bool = False,
        output_gate: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = n_heads
        self.num_kv_heads = n_kv_heads
        self.head_dim = head_dim
        self.layer = layer
        self.window = window
        self.query_factor = 1.0 if scale is None else scale * head_dim**0.5
        self.softcap = softcap
        widths = [heads * head_dim for heads in (n_heads, n_kv_heads, n_kv_heads)]
        self.W_query, self.W_key, self.W_value = (
            nn.Linear(emb_dim, width, bias=qkv_bias) for width in widths
        )
        width = n_heads * head_dim
        self.W_gate = nn.Linear(emb_dim, width, bias=qkv_bias) if output_gate else None
        self.fusable = (*QKV, "W_gate") if output_gate else QKV
        self.out_proj = nn.Linear(width, emb_dim, bias=out_bias)
        self.qk_norm = qk_norm
        if qk_norm != "none":
            sizes = widths[:2] if qk_norm == "whole" else [head_dim, head_dim]
            self.q_norm, self.k_norm = (RMSNorm(size, norm_eps, unit_offset) for size in sizes)
        self.sinks = nn.Parameter(torch.zeros(n_heads)) if sinks else None
        self.dropout = Dropout(drop_rate)

    def forward(
        self, x: Tensor, angles: RotaryAngles | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """[B, T, C] -> [B, T, C]; with a cache, its tokens are attended to as well.

        `angles` are those of the positions of x; None: a layer without positions.
        """
        B, T, _ = x.shape
        q, k, v, *gate = self.project(x)
        q, k, v = self.heads(q, k, v)
        if angles is not None:
            rotated = apply_rotary(torch.cat([q, k], 1), angles).type_as(v)  # [B, H + G, T, D]
            q, k = rotated.split_with_sizes([self.num_heads, self.num_kv_heads], 1)
        if self.query_factor != 1:
            q = q * self.query_factor  # [B, H, T, D]
        if cache is None:
            mask = window_mask(T, self.window, x.device)
        else:
            k, v = cache.append(self.layer, k, v, self.window)  # [B, G, S, D]
            mask = cache.mask(T, self.window)
        y = attend_grouped(q, k, v, mask, self.dropout, self.softcap, self.sinks)
        y = y.transpose(1, 2).reshape(B, T, -1)
        if gate:
            y = y * gate[0].sigmoid()
        return self.out_proj(y)  # [B, T, C]

    def heads(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, T, D], keys and values [B, G, T, D], normalized but not yet rotated.

        Args:
            q, k, v: projections, [B, T, H x D] and [B, T, G x D].
        """
        B, T, _ = q.shape
        if self.qk_norm == "whole":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (each.view(B, T, -1, self.head_dim) for each in (q, k, v))
        if self.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def window_mask(T: int, window: int | None, device: torch.device) -> Tensor | None:
    """Causal mask of a sliding window, True where a token may attend: [T, T]; None: no need."""
    if window is None or window >= T:
        return None
    allowed = torch.ones(T, T, dtype=torch.bool, device=device).tril()  # [T, T]
    return allowed.triu(1 - window)  # [T, T]


def attend_grouped(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: Dropout,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention with shared key/value heads, by the formula or by the kernels of `attend`.

    The kernels want a key for every query head, so keys and values are repeated for them. That
    would cost a copy of the cache for each new token: a single one is `decode_grouped`.

    Args:
        q, k, v: [B, H, T, D], [B, G, S, D], [B, G, S, D].
        mask, dropout: as in `attend`.
        softcap, sinks: as in `GroupedAttention`; sinks: [H].
    Returns:
        [B, H, T, D].
    """
    repeats = q.shape[1] // k.shape[1]
    no_kernel = softcap is not None or sinks is not None
    is_step = q.shape[2] == 1 and not dropout.observers and not dropout.training
    if is_step and (no_kernel or repeats > 1):
        return decode_grouped(q, k, v, mask, softcap, sinks)
    if no_kernel:
        return grouped_attention(q, k, v, mask, dropout, softcap, sinks)
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)  # [B, H, S, D]
    return attend(q, k, v, mask, dropout)


def grouped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: Dropout,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The formula of `attend_grouped`: the query heads of a group are rows of one product.

    Its steps are shown to the observers of `dropout`, as in `attention.observed_attention`.
    """
    B, H, T, D = q.shape
    groups = (B, k.shape[1], -1)
    q, k = dropout.observe("rot_q", q), dropout.observe("rot_k", k)
    rows = q.reshape(*groups, D) * D**-0.5  # [B, G, H // G * T, D]
    scores = soft_capped(rows @ k.mT, softcap).view(B, H, T, -1)  # [B, H, T, S]
    if mask is None and T > 1:
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()  # [T, T]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))  # [B, H, T, S]
    scores = dropout.observe("attn_scores", scores)
    weights = softmax_with_sinks(scores, None if sinks is None else sinks[:, None, None])
    weights = dropout(dropout.observe("pattern", weights.type_as(v)))
    return (weights.reshape(*groups, k.shape[2]) @ v).view(B, H, T, D)  # [B, H, T, D]


def decode_grouped(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`attend_grouped` of one new token: keys and values are read once for a group of queries.

    In a compiled step the products are sums, which become loops at memory speed.
    """
    B, H, _, D = q.shape
    G = k.shape[1]
    rows = q.view(B, G, H // G, D) * D**-0.5  # [B, G, H // G, D]
    by_sums = torch.compiler.is_exporting()
    scores = (rows[..., None, :] * k[:, :, None]).sum(-1) if by_sums else rows @ k.mT
    scores = soft_capped(scores, softcap)  # [B, G, H // G, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))  # [B, G, H // G, S]
    weights = softmax_with_sinks(scores, None if sinks is None else sinks.view(G, H // G, 1))
    weights = weights.type_as(v)  # [B, G, H // G, S]
    y = (weights[..., None] * v[:, :, None]).sum(3) if by_sums else weights @ v
    return y.view(B, H, 1, D)  # [B, H, 1, D]


def soft_capped(scores: Tensor, softcap: float | None) -> Tensor:
    """softcap * tanh(scores / softcap); None: unchanged. Any shape -> the same shape."""
    return scores if softcap is None else softcap * (scores / softcap).tanh()


def softmax_with_sinks(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax of the last dimension in float32; sinks are one score more, whose weight is dropped.

    Args:
        scores: [..., S].
        sinks: a shape that expands to [..., 1]; None: plain softmax.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if sinks is None:
        return scores.softmax(-1)
    nothing = sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, nothing], -1).softmax(-1)[..., :-1]
