"""Layer norm, GELU and the feed-forward network of a transformer block.

Each formula is written out next to the module that runs it by a kernel.
Tests: tests/model/test_layers.py (formula and kernel agree).
Lesson: lessons/step3_gpt.py, sections 3.2 to 3.4.
Source: layer normalization, Ba et al. 2016, https://arxiv.org/abs/1607.06450; GELU, Hendrycks and
Gimpel 2016, https://arxiv.org/abs/1606.08415; GPT-2, Radford et al. 2019, section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.fast_gelu import fast_gelu, fast_gelu_applies


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-5) -> Tensor:
    """Layer normalization, the formula: mean 0 and variance 1 per token, then scale and shift.

    [..., C] -> [..., C].
    """
    mean = x.mean(-1, keepdim=True)
    variance = x.var(-1, keepdim=True, unbiased=False)
    return scale * (x - mean) / (variance + eps).sqrt() + shift


def gelu(x: Tensor) -> Tensor:
    """GELU activation, the formula in its tanh form: about x times P(Z < x) of a normal Z.

    [...] -> [...].
    """
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


class LayerNorm(nn.Module):
    """Layer normalization with a learned scale and shift. [..., emb_dim] -> the same shape."""

    def __init__(self, emb_dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Compute `layer_norm` by PyTorch's kernel."""
        scale = self.scale
        return torch.layer_norm(x, scale.shape, scale, self.shift, self.eps)


class GELU(nn.Module):
    """GELU activation of the feed-forward network. Any shape -> the same shape.

    Attributes:
        fast: use `fast_gelu` for training on a CPU; set by `training.model_with_loss`.
    """

    fast = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute `gelu` by PyTorch's kernel or by `fast_gelu`."""
        if self.fast and self.training and fast_gelu_applies(x):
            return fast_gelu(x)
        return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu_tanh": GELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}
"""`GPTConfig.activation` -> module.

"gelu" is x times P(Z < x) of a normal Z, which `gelu` differs from by up to 0.0005.
"""


class FeedForward(nn.Module):
    """Feed-forward network of a block: C -> F, activation, F -> C. [B, T, C] -> [B, T, C].

    Args:
        cfg: a `GPTConfig`, or the notebooks' dict.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__()
        C = cfg["emb_dim"]
        F = cfg.get("ff_dim") or 4 * C
        activation = ACTIVATIONS[cfg.get("activation", "gelu_tanh")]
        self.layers = nn.Sequential(nn.Linear(C, F), activation(), nn.Linear(F, C))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, F] -> [B, T, C]."""
        return self.layers(x)
