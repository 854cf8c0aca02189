"""The three plain parts of a block: normalise, bend, and think about each token alone.

Each formula stands beside the kernel that runs it. Proof that they agree: tests/model/test_layers.py.
Lesson: lessons/step3_gpt.py, sections 3.2 to 3.4.
Source: layer normalisation, Ba et al. 2016, https://arxiv.org/abs/1607.06450; GELU, Hendrycks and Gimpel 2016,
https://arxiv.org/abs/1606.08415; GPT-2, Radford et al. 2019, section 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.fast_gelu import fast_gelu, fast_gelu_applies


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Each token's numbers moved to mean 0 and variance 1, then stretched and shifted: the formula. x: [..., C] -> [..., C]."""
    mean = x.mean(-1, keepdim=True)
    variance = x.var(-1, keepdim=True, unbiased=False)
    return scale * (x - mean) / (variance + eps).sqrt() + shift


def gelu(x: Tensor) -> Tensor:
    """A soft ReLU: x times (nearly) the chance that a normal draw is below x; the formula in its tanh form. [...] -> [...]."""
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


class LayerNorm(nn.Module):
    """Keeps every token's numbers at a steady size, so that deep stacks train. [..., emb_dim] -> the same shape."""

    def __init__(self, emb_dim: int) -> None:
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        """`layer_norm` above, by PyTorch's kernel."""
        scale = self.scale
        return torch.layer_norm(x, scale.shape, scale, self.shift, self.eps)


class GELU(nn.Module):
    """The activation between the two matrices of the feed-forward. Any shape -> the same shape.

    Attributes:
        fast: train by `fast_gelu` on a CPU; `training.trainee.Trainee` sets it.
    """

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        """`gelu` above, by PyTorch's kernel or by `fast_gelu`."""
        if self.fast and self.training and fast_gelu_applies(x):
            return fast_gelu(x)
        return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """What a block does with each token alone: widen four times, bend, narrow again. [B, T, C] -> [B, T, C]."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        C = cfg["emb_dim"]
        self.layers = nn.Sequential(nn.Linear(C, 4 * C), GELU(), nn.Linear(4 * C, C))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, F] -> [B, T, C]."""
        return self.layers(x)
