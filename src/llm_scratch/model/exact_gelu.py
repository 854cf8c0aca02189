"""GPT with the exact (erf) GELU, as in nanoGPT and litgpt.

GPT-2 and `GPTModel` use the tanh approximation, which differs by up to 0.0005.
Tests: tests/model/test_exact_gelu.py.
Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.gpt import GPTModel


class ExactGELU(nn.Module):
    """Exact GELU activation: x times P(Z < x) of a normal Z. Any shape -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        """x (1 + erf(x / sqrt 2)) / 2, by PyTorch's kernel."""
        return F.gelu(x)


class ExactGELUGPT(GPTModel):
    """`GPTModel` with `ExactGELU` as its activation."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        super().__init__(cfg)
        for block in self.trf_blocks:
            block.ff.layers[1] = ExactGELU()  # type: ignore[union-attr, operator, assignment]
