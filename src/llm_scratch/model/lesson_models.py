"""Small models of the lessons: attention step by step, the outline of a GPT, a deep network.

Lesson 2 builds `SelfAttention_v1`, `SelfAttention_v2`, `CausalAttention`,
`MultiHeadAttentionWrapper` and then `attention.MultiHeadAttention`; lesson 3 begins with
`DummyGPTModel` and shows why a deep network needs shortcuts. No GPT uses these classes. Names,
signatures and the order of random numbers are the notebooks', so that a seed gives the notebooks'
results.
Tests: tests/model/test_lesson_models.py (each step equals the previous one where it should),
tests/notebooks/test_step2.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.architectures import GPTConfig
from llm_scratch.model.layers import GELU


def softmax_navie(x: Tensor) -> Tensor:
    """Softmax along the first dimension: positive values that sum to 1. Same shape.

    Numerically stable despite its name: e^x overflows float32 above x = 88, so the largest score is
    subtracted first. That does not change the result; without it, large scores give NaN.
    """
    powers = torch.exp(x - x.max(0).values)
    return powers / powers.sum(0)


softmax_naive = softmax_navie  # the notebooks' spelling is kept


class SelfAttention_v1(nn.Module):
    """Self-attention with trained projections, for one sequence. [T, d_in] -> [T, d_out]."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Weight the values by how well each token's query matches the keys."""
        queries, keys, values = x @ self.W_query, x @ self.W_key, x @ self.W_value
        scores = queries @ keys.T  # [T, T]
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)  # [T, T]
        return weights @ values


class SelfAttention_v2(nn.Module):
    """Self-attention with `nn.Linear`, whose initial weights train better. [T, d_in] -> [T, d_out].

    `nn.Linear` stores its matrix transposed: `v1.W_query = v2.W_query.weight.T` makes the two
    equal.
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """As in `SelfAttention_v1`."""
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.T  # [T, T]
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)  # [T, T]
        return weights @ values


class CausalAttention(nn.Module):
    """Causal self-attention with dropout, for a batch. [B, T, d_in] -> [B, T, d_out].

    Args:
        context_length: longest T; size of the buffer `mask`, which is 1 for future positions.
        dropout: probability of dropping a weight during training; the others are scaled by
            1 / (1 - dropout).
    """

    mask: Tensor

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float = 0.0,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.ones(context_length, context_length).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend with -inf for the future: e^-inf is 0, and each row still sums to 1."""
        T = x.shape[1]
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.transpose(1, 2)  # [B, T, T]
        scores = scores.masked_fill(self.mask[:T, :T].bool(), float("-inf"))  # [B, T, T]
        weights = self.dropout(torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1))  # [B, T, T]
        return weights @ values


class MultiHeadAttentionWrapper(nn.Module):
    """Several `CausalAttention` heads, concatenated. [B, T, d_in] -> [B, T, num_heads * d_out].

    `attention.MultiHeadAttention` computes all heads at once, splits d_out among them, and adds an
    output projection.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float = 0.0,
        qkv_bias: bool = False,
        num_heads: int = 2,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias)
            for _ in range(num_heads)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the outputs of the heads."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


class ExampleDeepNeuralNetwork(nn.Module):
    """Stack of Linear and GELU, with or without shortcuts: layer_sizes[0] -> layer_sizes[-1].

    Args:
        layer_sizes: width of the input and of each layer's output.
        use_shortcut: add a layer's input to its output if their sizes are equal.
    """

    def __init__(self, layer_sizes: list[int], use_shortcut: bool) -> None:
        super().__init__()
        self.use_shortcut = use_shortcut
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(wide, out), GELU()) for wide, out in pairwise(layer_sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers in order."""
        for layer in self.layers:
            y = layer(x)
            x = x + y if self.use_shortcut and x.shape == y.shape else y
        return x


def print_gradients(model: nn.Module, x: Tensor) -> None:
    """Print the mean absolute gradient of each weight matrix.

    The loss is the mean squared distance of the output from 0. The gradients stay on the model.
    """
    output = model(x)
    nn.functional.mse_loss(output, torch.zeros_like(output)).backward()
    for name, weight in model.named_parameters():
        if name.endswith("weight") and weight.grad is not None:
            print(f"{name} has gradient mean of {weight.grad.abs().mean().item()}")


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
        self.cfg = cfg = GPTConfig.of(cfg)
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
