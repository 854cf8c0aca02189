"""How much arithmetic a token is: the number beside which a speed means something.

A matrix of n numbers multiplies and adds n times a token on the way forward, 2 n FLOPs; the way back does it twice more, once for the
gradient of what came in and once for its own: 6 n. Attention has no matrix of its own: a token is compared with all T tokens of its row,
and gathers from them, 2 x 2 T C FLOPs a layer forward, 12 T C in all (half of that is hidden future; we count it, as all who publish an
MFU do). Norms, GELU and the softmax are left out: next to nothing in arithmetic, though not in time.
Tests: tests/hardware/test_flops.py (equal to what torch counts operation by operation).
Source: PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, where MFU is defined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def flops_per_token(model: nn.Module) -> int:
    """FLOPs to learn from one token, forward and back: 6 for each number in a matrix, 12 T C for each layer's attention.

    A table that is only looked up (an embedding) costs nothing; the same table as output head does.
    """
    matrices = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear))
    cfg: Mapping[str, Any] = model.cfg  # type: ignore[assignment]
    return 6 * matrices + 12 * cfg["n_layers"] * cfg["context_length"] * cfg["emb_dim"]


def mfu(flops: float, tokens_per_second: float, matrix_rate: float) -> float:
    """Model FLOPs utilisation: the share of the machine's measured matrix rate that learning makes use of, 0 to 1."""
    return flops * tokens_per_second / matrix_rate
