"""Check a learner's MultiHeadAttention against the package's.

Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.own_parts.layer_parts import Mistake, check_module
from llm_scratch.own_parts.verdict import Verdict

D_IN, D_OUT, N_HEADS, CONTEXT_LENGTH = 10, 12, 3, 9
SHAPES = (2, 7, D_IN), (5, CONTEXT_LENGTH, D_IN), (2, 1, D_IN)
"""[B, T, d_in] of the inputs: shorter than the context, as long, and a single token."""


def check_attention(cls: Any) -> Verdict:
    """Compare a `MultiHeadAttention(d_in, d_out, context_length, dropout, num_heads)`."""
    sizes = D_IN, D_OUT, CONTEXT_LENGTH, 0.0, N_HEADS
    generator = torch.Generator().manual_seed(4)
    inputs = [torch.randn(shape, generator=generator) for shape in SHAPES]
    make = (lambda: cls(*sizes)), (lambda: MultiHeadAttention(*sizes))
    return check_module("MultiHeadAttention", *make, inputs, MISTAKES)


def _heads(att: Any, x: Tensor) -> Tensor:
    """[B, T, d_out] -> [B, H, T, D]."""
    B, T, _ = x.shape
    return x.view(B, T, att.num_heads, att.head_dim).transpose(1, 2)


def _causal(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)


def _weights(scores: Tensor) -> Tensor:
    return _causal(scores).softmax(-1)


def _join(mixed: Tensor) -> Tensor:
    """[B, H, T, D] -> [B, T, C]."""
    return mixed.transpose(1, 2).flatten(2)


def _attention(
    att: Any,
    x: Tensor,
    weights: Callable[[Tensor], Tensor] = _weights,
    size: float | None = None,
    cut: Callable[[Any, Tensor], Tensor] = _heads,
    join: Callable[[Tensor], Tensor] = _join,
) -> Tensor:
    """The output before `out_proj`, with one step replaced."""
    q, k, v = (cut(att, W(x)) for W in (att.W_query, att.W_key, att.W_value))
    scores = q @ k.mT / (att.head_dim if size is None else size) ** 0.5
    return join(weights(scores) @ v)


def _no_mask(att: Any, x: Tensor) -> Tensor:
    """It equals the package's without the mask: each token sees the future."""
    return att.out_proj(_attention(att, x, lambda scores: scores.softmax(-1)))


def _mask_upside_down(att: Any, x: Tensor) -> Tensor:
    """The mask is upside down: each token sees the future and not the past."""
    return att.out_proj(_attention(att, x, lambda s: _causal(s.mT).mT.softmax(-1)))


def _hides_itself(att: Any, x: Tensor) -> Tensor:
    """The mask hides each token from itself (triu needs diagonal=1), so the first sees nothing."""

    def weights(scores: Tensor) -> Tensor:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu()
        return scores.masked_fill(hidden, -torch.inf).softmax(-1)

    return att.out_proj(_attention(att, x, weights))


def _masked_after_softmax(att: Any, x: Tensor) -> Tensor:
    """The mask comes after softmax, so the rows no longer add up to 1; hide scores before it."""
    return att.out_proj(_attention(att, x, lambda scores: scores.softmax(-1).tril()))


def _masked_by_zero(att: Any, x: Tensor) -> Tensor:
    """Hidden scores are set to 0, which softmax turns into a weight; set them to -inf."""
    return att.out_proj(_attention(att, x, lambda scores: scores.tril().softmax(-1)))


def _wrong_axis(att: Any, x: Tensor) -> Tensor:
    """Its softmax runs over the queries (dim=-2); the keys of each query share its attention."""
    return att.out_proj(_attention(att, x, lambda scores: _causal(scores).softmax(-2)))


def _not_scaled(att: Any, x: Tensor) -> Tensor:
    """The scores are not divided by the root of a head's size."""
    return att.out_proj(_attention(att, x, size=1))


def _scaled_by_width(att: Any, x: Tensor) -> Tensor:
    """The scores are divided by the root of d_out; a head has only d_out / num_heads of it."""
    return att.out_proj(_attention(att, x, size=att.num_heads * att.head_dim))


def _divided_by_size(att: Any, x: Tensor) -> Tensor:
    """The scores are divided by a head's size; divide by its root."""
    return att.out_proj(_attention(att, x, size=att.head_dim**2))


def _one_head(att: Any, x: Tensor) -> Tensor:
    """It is one head of full width: the vectors are not cut into heads."""
    one = att.num_heads * att.head_dim
    return att.out_proj(_attention(att, x, size=one, cut=lambda _, y: y[:, None]))


def _cut_without_transpose(att: Any, x: Tensor) -> Tensor:
    """The heads are cut by view(B, H, T, D), which mixes tokens;
    view(B, T, H, D), then transpose.
    """

    def cut(att: Any, y: Tensor) -> Tensor:
        return y.reshape(y.shape[0], att.num_heads, y.shape[1], att.head_dim)

    return att.out_proj(_attention(att, x, cut=cut))


def _joined_without_transpose(att: Any, x: Tensor) -> Tensor:
    """The heads are joined without transpose(1, 2) before, so tokens and heads are mixed."""
    B, T, _ = x.shape
    return att.out_proj(_attention(att, x, join=lambda mixed: mixed.reshape(B, T, -1)))


def _no_projection(att: Any, x: Tensor) -> Tensor:
    """It equals the package's without out_proj."""
    return _attention(att, x)


def _no_projection_bias(att: Any, x: Tensor) -> Tensor:
    """It equals the package's without the bias of out_proj."""
    return F.linear(_attention(att, x), att.out_proj.weight)


MISTAKES: tuple[Mistake, ...] = (
    _no_mask,
    _mask_upside_down,
    _hides_itself,
    _masked_after_softmax,
    _masked_by_zero,
    _wrong_axis,
    _not_scaled,
    _scaled_by_width,
    _divided_by_size,
    _one_head,
    _cut_without_transpose,
    _joined_without_transpose,
    _no_projection,
    _no_projection_bias,
)
