"""Training FLOPs per token, and model FLOPs utilization (MFU).

A matrix of n parameters takes 2 n FLOPs a token in the forward pass and 4 n in the backward pass,
for the gradients of its input and of itself: 6 n. Attention adds 2 x 2 T C FLOPs a layer forward,
for scores and weighted values of T tokens: 12 T C in total. The masked half is counted, as in
published MFUs. Norms, GELU and softmax are ignored: they are few FLOPs, though not little time.
Tests: tests/hardware/test_flops.py (equal to what torch counts operation by operation).
Source: PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, where MFU is
defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def flops_per_token(model: nn.Module) -> int:
    """FLOPs of the forward and backward pass of a token: 6 per matrix parameter, 12 T C per layer.

    An embedding lookup takes no FLOPs; the same table as output head does.
    """
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    cfg: Mapping[str, Any] = model.cfg  # type: ignore[assignment]
    return 6 * matrices + 12 * cfg["n_layers"] * cfg["context_length"] * cfg["emb_dim"]


def mfu(flops: float, tokens_per_second: float, matrix_rate: float) -> float:
    """Model FLOPs utilization: share of the measured matrix rate that training uses, 0 to 1."""
    return flops * tokens_per_second / matrix_rate
