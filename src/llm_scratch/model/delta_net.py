"""Gated DeltaNet: a layer in the place of attention, whose memory is a matrix of fixed size.

    q, k, v = silu(convolution(W x))            each token mixes the last few
    q, k of length 1
    beta = sigmoid(W_beta x)                    how much of the stored value is corrected
    g = -exp(a) softplus(W_decay x + b)         how much the memory fades
    y = W_out (norm(delta_rule(q, k, v, g, beta)) * silu(W_gate x))

The order of tokens is in the fading and the convolution, so it needs no positions.
Tests: tests/model/test_qwen_next.py (equal to transformers', with and without a cache).
Source: Yang et al. 2024, "Gated Delta Networks", https://arxiv.org/abs/2412.06464.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.attention import QKV
from llm_scratch.model.delta_rule import (
    causal_convolution,
    effective_attention,
    gated_delta_rule,
)
from llm_scratch.model.dropout import Dropout
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.norms import RMSNorm
from llm_scratch.model.rope import RotaryAngles
from llm_scratch.model.state_cache import StateCache


class DeltaSizes(NamedTuple):
    """Sizes of a Gated DeltaNet."""

    key_heads: int
    """heads of queries and keys"""
    value_heads: int
    """H: heads of values, each with a memory; a multiple of `key_heads`"""
    key: int
    """size of a head's queries and keys"""
    value: int
    """D: size of a head's values"""
    convolution: int
    """tokens that the convolution mixes"""


class GatedDeltaNet(Fusable):
    """Layer with a gated delta rule. [B, T, C] -> [B, T, C].

    Args:
        emb_dim: C.
        sizes: of its vectors.
        norm_eps: of the norm of its outputs.
        layer: index of this layer among the states of the cache.
    """

    fusable = (*QKV, "W_gate", "W_beta", "W_decay")

    def __init__(self, emb_dim: int, sizes: DeltaSizes, norm_eps: float, layer: int = 0) -> None:
        super().__init__()
        self.sizes, self.layer = sizes, layer
        self.num_heads, self.head_dim = sizes.value_heads, sizes.value
        self.projections = {  # for `interpretability.capture`
            "q": ("W_query", sizes.key),
            "k": ("W_key", sizes.key),
            "v": ("W_value", sizes.value),
        }
        keys, values = sizes.key_heads * sizes.key, sizes.value_heads * sizes.value
        self.widths = [keys, keys, values]
        self.W_query, self.W_key, self.W_value = (
            nn.Linear(emb_dim, width, bias=False) for width in self.widths
        )
        self.W_gate = nn.Linear(emb_dim, values, bias=False)
        self.W_beta = nn.Linear(emb_dim, sizes.value_heads, bias=False)
        self.W_decay = nn.Linear(emb_dim, sizes.value_heads, bias=False)
        bound = sizes.convolution**-0.5
        self.convolution = nn.Parameter(
            torch.empty(sum(self.widths), sizes.convolution).uniform_(-bound, bound)
        )
        self.decay_log = nn.Parameter(torch.empty(sizes.value_heads).uniform_(0.01, 16).log())
        self.decay_bias = nn.Parameter(torch.ones(sizes.value_heads))
        self.norm = RMSNorm(sizes.value, norm_eps)
        self.out_proj = nn.Linear(values, emb_dim, bias=False)
        self.dropout = Dropout(0.0)  # for its observers, see `interpretability.capture`

    def forward(
        self, x: Tensor, angles: RotaryAngles | None = None, cache: StateCache | None = None
    ) -> Tensor:
        """Correct the memory token by token and read it; `angles` are not used.

        Padding is replaced by zeros, which neither the convolution nor the memory keeps.
        """
        B, T, _ = x.shape
        memory, last = self.empty_state(B, x) if cache is None else cache.states[self.layer]
        if cache is not None and (text := cache.text(T)) is not None:
            x = x * text[..., None]  # [B, T, C]
        *qkv, gate, beta, decay = self.project(x)
        q, k, v, last = self._convolved(torch.cat(qkv, -1), last)
        beta = beta.float().sigmoid().mT  # [B, H, T]
        fading = F.softplus(decay.float() + self.decay_bias)
        g = -(self.decay_log.float().exp() * fading).mT  # [B, H, T]
        q = q * self.sizes.key**-0.5
        if self.dropout.observers and cache is None:
            y = self._observed(q, k, v, g, beta)
        else:
            y, memory = gated_delta_rule(q, k, v, g, beta, memory)
        if cache is not None:
            cache.states[self.layer] = [memory, last.clone()]
        gate = F.silu(gate.unflatten(-1, (-1, self.sizes.value)).float())
        y = (self.norm(y.transpose(1, 2)) * gate).type_as(x)
        return self.out_proj(y.flatten(2))  # [B, T, C]

    def _observed(self, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
        """The outputs by the weights of the values, shown to the observers of `dropout`."""
        observe = self.dropout.observe
        q, k = observe("rot_q", q), observe("rot_k", k)
        observe("attn_scores", q @ k.mT)
        return observe("pattern", effective_attention(q, k, g, beta)) @ v.float()

    def _convolved(self, qkv: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and keys of length 1, and values, all [B, H, T, size]; and the last tokens.

        Args:
            qkv: projections of queries, keys and values, one after the other, [B, T, ...].
            last: those of the tokens before that the convolution mixes.
        """
        mixed, last = causal_convolution(qkv, self.convolution.type_as(qkv), last)
        q, k, v = F.silu(mixed).split(self.widths, -1)
        q, k = (self._unit(each) for each in (q, k))
        return q, k, v.unflatten(-1, (-1, self.sizes.value)).transpose(1, 2), last

    def _unit(self, x: Tensor) -> Tensor:
        """Heads of length 1, repeated for all value heads: [B, T, ...] -> [B, H, T, size]."""
        x = x.unflatten(-1, (-1, self.sizes.key)).transpose(1, 2).float()
        x = x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()
        return x.repeat_interleave(self.sizes.value_heads // self.sizes.key_heads, 1)

    def empty_state(self, rows: int, like: Tensor) -> list[Tensor]:
        """The memory and the last tokens of the convolution at the beginning of a text: zeros."""
        sizes = self.sizes
        memory = like.new_zeros(
            rows, sizes.value_heads, sizes.key, sizes.value, dtype=torch.float32
        )
        return [memory, like.new_zeros(rows, sizes.convolution - 1, sum(self.widths))]
