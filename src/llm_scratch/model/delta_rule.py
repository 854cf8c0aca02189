"""Gated delta rule: attention with a memory of fixed size, a matrix that each token corrects.

The memory S maps keys to values. Each token lets S fade, reads the value stored for its key, and
moves that value toward its own by a share beta:

    S <- exp(g) S                      g <= 0: how much fades
    S <- S + beta k (v - S^T k)^T      the delta rule: correct the value stored for k
    y  = S^T q

Attention keeps all keys and values and pays T^2; here a token costs the same however long the text
is. Without fading and correction (g = 0, v in place of v - S^T k) it is linear attention.

A chunk of N tokens at once: with G the running sum of g in the chunk, the corrections
u_i = beta_i (v_i - ...) depend on each other only through a triangular system,

    (I + A) U = beta (V - exp(G) K S),   A_ij = beta_i exp(G_i - G_j) k_i k_j for j < i
    Y  = exp(G) Q S + (exp(G_i - G_j) q_i k_j for j <= i) U
    S <- exp(G_N) S + sum_j exp(G_N - G_j) k_j u_j^T

which is the recurrence for N = 1, and matrix products for larger N.
Tests: tests/model/test_delta_rule.py (chunks equal the recurrence and transformers; gradients too).
Source: delta rule in chunks, Yang et al. 2024, https://arxiv.org/abs/2406.06484; gated, Yang et al.
2024, https://arxiv.org/abs/2412.06464, section 3.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64  # tokens; larger chunks cost more for the system, smaller ones more steps


def recurrent_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The formula, token by token.

    Args:
        q, k: queries and keys, [B, H, T, K].
        v: values, [B, H, T, D].
        g: log of what is kept, at most 0, [B, H, T].
        beta: share that is corrected, 0 to 1, [B, H, T].
        state: S before the first token, [B, H, K, D].
    Returns:
        Outputs [B, H, T, D], and the state after the last token.
    """
    outputs = []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None].exp()
        stored = (state * k[:, :, t, :, None]).sum(2)  # [B, H, D]
        correction = beta[:, :, t, None] * (v[:, :, t] - stored)  # [B, H, D]
        state = state + k[:, :, t, :, None] * correction[:, :, None]
        outputs.append((state * q[:, :, t, :, None]).sum(2))
    return torch.stack(outputs, 2), state


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """`recurrent_delta_rule` in chunks, by matrix products; computed in float32.

    Args:
        q, k, v, g, beta, state: as there.
        chunk: tokens at once.
    """
    dtype = v.dtype
    with without_autocast(v.device.type):
        q, k, v, g, beta, state = (x.float() for x in (q, k, v, g, beta, state))
        if q.shape[2] == 1:
            y, state = recurrent_delta_rule(q, k, v, g, beta, state)
            return y.to(dtype), state
        outputs = []
        chunks = [x.split(chunk, 2) for x in (q, k, v, g, beta)]
        for q, k, v, g, beta in zip(*chunks):
            y, state = _chunk(q, k, v, g, beta, state)
            outputs.append(y)
        return torch.cat(outputs, 2).to(dtype), state


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """A context without autocast, on every device; "meta" has no autocast."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One chunk; arguments and results as in `recurrent_delta_rule`."""
    total, fades = _fading(g)
    kept = total.exp()[..., None]
    beta = beta[..., None]
    system = beta * fades * (k @ k.mT)  # its diagonal is taken as 1
    wanted = beta * (v - kept * (k @ state))
    corrections = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
    y = kept * (q @ state) + (fades * (q @ k.mT)) @ corrections
    written = k * (total[..., -1:] - total).exp()[..., None]
    return y, state * total[..., -1, None, None].exp() + written.mT @ corrections


def _fading(g: Tensor) -> tuple[Tensor, Tensor]:
    """G, and exp(G_i - G_j), 0 for j > i: [B, H, N] and [B, H, N, N]."""
    total = g.cumsum(-1)
    later = torch.ones(g.shape[-1], g.shape[-1], dtype=torch.bool, device=g.device).triu(1)
    return total, (total[..., :, None] - total[..., None, :]).masked_fill(later, -torch.inf).exp()


def effective_attention(q: Tensor, k: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The outputs of a whole text as weights of its values: [B, H, T, T], y = weights @ v.

    They show what a token reads of earlier ones, as the weights of attention do; but they may be
    negative, and do not add up to 1. Arguments as in `recurrent_delta_rule`.
    """
    _, fades = _fading(g)
    system = beta[..., None] * fades * (k @ k.mT)
    corrections = torch.linalg.solve_triangular(
        system, beta.diag_embed(), upper=False, unitriangular=True
    )
    return (fades * (q @ k.mT)) @ corrections


def causal_convolution(x: Tensor, weight: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """A short filter along the text, for each channel alone: every token mixes the last few.

    Args:
        x: [B, T, C].
        weight: [C, N]; the last column is for the token itself.
        before: the N - 1 tokens before x, [B, N - 1, C]; zeros at the start of a text.
    Returns:
        [B, T, C], and the last N - 1 tokens, for the next call.
    """
    C, N = weight.shape
    x = torch.cat([before.to(x.dtype), x], 1)
    y = F.conv1d(x.mT, weight[:, None], groups=C).mT
    return y, x[:, x.shape[1] - (N - 1) :]
