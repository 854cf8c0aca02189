"""Gated feed-forward network: one projection of the input is multiplied by another, the gate.

    y = (activation(x W_gate) * x W_up) W_down

With SiLU it is SwiGLU (Llama, Qwen, OLMo), with GELU it is GeGLU (Gemma). Three matrices instead of
two, so at equal size the hidden layer has two thirds of the width.
Tests: tests/model/test_gated_ff.py (equal to the formula and to transformers; a gate that is always
1 gives the network without a gate).
Source: Shazeer 2020, "GLU Variants Improve Transformer", https://arxiv.org/abs/2002.05202.
"""

from __future__ import annotations

from torch import Tensor, nn

from llm_scratch.model.fusable import Fusable
from llm_scratch.model.layers import ACTIVATIONS


class GatedFeedForward(Fusable):
    """Feed-forward network with a gate: C -> F, F -> C. [..., C] -> [..., C].

    Args:
        emb_dim: C.
        ff_dim: F, the width of gate and hidden layer.
        activation: of the gate, a name in `layers.ACTIVATIONS`.
        bias: whether the three projections have one.
    """

    fusable = "gate_proj", "up_proj"

    def __init__(
        self, emb_dim: int, ff_dim: int, activation: str = "silu", bias: bool = False
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(emb_dim, ff_dim, bias=bias)
        self.up_proj = nn.Linear(emb_dim, ff_dim, bias=bias)
        self.activation = ACTIVATIONS[activation]()
        self.down_proj = nn.Linear(ff_dim, emb_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the formula."""
        gate, up = self.project(x)
        return self.down_proj(self.activation(gate) * up)
