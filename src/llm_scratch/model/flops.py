"""Training FLOPs per token, and model FLOPs utilization (MFU).

The matrix products of a forward pass are counted one by one, with tensors that have no memory, so
no code here depends on an architecture. The backward pass has two products for each of them, for
the gradients of both factors: three times the forward pass in total, as in published MFUs, where
the masked half of attention counts too. For a GPT-2 that is 6 FLOPs a token for each parameter of a
matrix and 12 T C for each layer. Norms, activations and softmax are ignored: they take few FLOPs,
though not little time.
Tests: tests/model/test_flops.py (equal to a backward pass, and to the formula).
Source: PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B, where MFU is
defined.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from llm_scratch.architectures import ModelConfig
from llm_scratch.model import build


@lru_cache
def flops_per_token(cfg: ModelConfig) -> int:
    """FLOPs of the forward and backward pass of a token, in a full context.

    An embedding lookup takes no FLOPs; the same table as output head does. A model that depends on
    values, such as which expert a router chooses, cannot run without them: 6 FLOPs a parameter.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = build(cfg).eval()
        ids = torch.zeros(1, cfg.context_length, dtype=torch.long)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as forward:
            model(ids)
    except RuntimeError:
        return 6 * cfg.n_params
    return 3 * forward.get_total_flops() // cfg.context_length


def mfu(flops: float, tokens_per_second: float, matrix_rate: float) -> float:
    """Model FLOPs utilization: share of the measured matrix rate that training uses, 0 to 1."""
    return flops * tokens_per_second / matrix_rate
