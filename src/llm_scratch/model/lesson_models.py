"""The steps that lead to the model, one small class each: nothing here runs in a GPT, everything here is how one understands it.

Lesson 2 goes `SelfAttention_v1` -> `_v2` -> `CausalAttention` -> `MultiHeadAttentionWrapper` -> `attention.MultiHeadAttention`; lesson 3
asks what a shortcut is good for. Names, signatures and the order of random numbers are the notebooks', so that a seed gives their results.
Proof: tests/model/test_lesson_models.py (each step equals the one before it where it should) and tests/notebooks/test_step2.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from llm_scratch.model.layers import GELU


def softmax_navie(x: Tensor) -> Tensor:
    """Turn scores into shares of 1, along the first dimension; the biggest score gets the biggest share. Same shape.

    Naive in name only: e^x of a score above 88 is too large for a float32, so the largest score is taken from all of them first,
    which changes no share. Without that, large scores give nan.
    """
    powers = torch.exp(x - x.max(0).values)
    return powers / powers.sum(0)


softmax_naive = softmax_navie  # as it is spelt


class SelfAttention_v1(nn.Module):
    """Attention whose question, label and content are three trained matrices, for one text. [T, d_in] -> [T, d_out]."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Each token asks with its query, and mixes the values of the tokens whose keys answer."""
        queries, keys, values = x @ self.W_query, x @ self.W_key, x @ self.W_value
        scores = queries @ keys.T  # [T, T]
        weights = torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1)  # [T, T]
        return weights @ values


class SelfAttention_v2(nn.Module):
    """The same with `nn.Linear`, whose first weights are of a size that trains better. [T, d_in] -> [T, d_out].

    `nn.Linear` keeps its matrix transposed: `v1.W_query = v2.W_query.weight.T` makes the two equal.
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
    """Attention that cannot see the future, for a batch, with dropout. [B, T, d_in] -> [B, T, d_out].

    Args:
        context_length: longest T; size of the buffer `mask`, which is 1 where a token may not look.
        dropout: share of the weights set to 0 while training, the others grow by 1 / (1 - dropout).
    """

    mask: Tensor

    def __init__(self, d_in: int, d_out: int, context_length: int, dropout: float = 0.0, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.ones(context_length, context_length).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """As before, with -inf for the future: e^-inf is 0, and each row still sums to 1."""
        T = x.shape[1]
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        scores = queries @ keys.transpose(1, 2)  # [B, T, T]
        scores = scores.masked_fill(self.mask[:T, :T].bool(), float("-inf"))  # [B, T, T]
        weights = self.dropout(torch.softmax(scores / keys.shape[-1] ** 0.5, dim=-1))  # [B, T, T]
        return weights @ values


class MultiHeadAttentionWrapper(nn.Module):
    """Several `CausalAttention` side by side, one after the other; their findings are joined. [B, T, d_in] -> [B, T, num_heads * d_out].

    `attention.MultiHeadAttention` does the work of all heads at once, splits d_out among them, and mixes what they found.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float = 0.0, qkv_bias: bool = False, num_heads: int = 2
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Each head looks for itself."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


class ExampleDeepNeuralNetwork(nn.Module):
    """A plain stack of Linear and GELU, with or without shortcuts. [..., layer_sizes[0]] -> [..., layer_sizes[-1]].

    Args:
        layer_sizes: width of the input and of each layer's output.
        use_shortcut: add a layer's input to its output where the two are of one size.
    """

    def __init__(self, layer_sizes: list[int], use_shortcut: bool) -> None:
        super().__init__()
        self.use_shortcut = use_shortcut
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(wide, out), GELU()) for wide, out in pairwise(layer_sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Layer after layer."""
        for layer in self.layers:
            y = layer(x)
            x = x + y if self.use_shortcut and x.shape == y.shape else y
        return x


def print_gradients(model: nn.Module, x: Tensor) -> None:
    """Print how strongly each weight matrix hears of an error at the output: the mean size of its gradient.

    The error is the squared distance of the output from 0. The gradients stay on the model.
    """
    output = model(x)
    nn.functional.mse_loss(output, torch.zeros_like(output)).backward()
    for name, weight in model.named_parameters():
        if name.endswith("weight") and weight.grad is not None:
            print(f"{name} has gradient mean of {weight.grad.abs().mean().item()}")
