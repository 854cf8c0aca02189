"""Causal attention for training on a CPU, in blocks of queries.

The formula computes a full table of weights [T, T] and masks the upper half. Here a block of N
queries is multiplied with the S keys up to its end only, which saves up to half of the work. The
handwritten backward pass keeps two tables instead of three and does not copy heads.
Tests: tests/model/test_blocked_attention.py (equal to the formula, gradients too).
Gain: LOG.md, 2026-11-29.
Source: the row sum of the backward pass as in FlashAttention, Dao et al. 2022,
https://arxiv.org/abs/2205.14135, appendix B.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llm_scratch.model.dropout import dropout_mask

BLOCK_ROWS = 64  # queries per block


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, p: float = 0.0) -> Tensor:
    """softmax(q k^T / sqrt(D)) v with a causal mask and dropout on the weights.

    Args:
        q, k, v: [B, H, T, D]; values may be of another size.
        p: dropout probability; the mask is `dropout_mask`.
    Returns:
        [B, H, T, D], in memory [B, T, H, D], as the output projection reads it.
    """
    return _BlockedAttention.apply(q, k, v, p)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        B, H, T, D = q.shape
        flat_q, flat_k, flat_v = (x.flatten(0, 1).contiguous() for x in (q, k, v))  # [B * H, T, D]
        y = torch.empty(B, T, H, v.shape[-1], dtype=v.dtype, device=v.device)
        tables = []
        for start, stop in blocks(T):
            future = _future(start, stop, q)
            block_q, seen_k = flat_q[:, start:stop], flat_k[:, :stop]
            scores = torch.baddbmm(future, block_q, seen_k.mT, alpha=D**-0.5)  # [B * H, N, S]
            weights = scores.softmax(-1)
            kept = weights * dropout_mask(weights, p) if p else weights
            block_y = torch.bmm(kept, flat_v[:, :stop])  # [B * H, N, D]
            y[:, start:stop] = block_y.unflatten(0, (B, H)).transpose(1, 2)
            tables += [weights, kept] if p else [weights]
        ctx.save_for_backward(flat_q, flat_k, flat_v, y, *tables)
        ctx.dropped = p > 0
        return y.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (dy,) = gradients
        flat_q, flat_k, flat_v, y, *tables = ctx.saved_tensors
        B, H, T, _ = dy.shape
        D = flat_q.shape[-1]
        dq = torch.empty(B, T, H, D, dtype=dy.dtype, device=dy.device)
        flat_dy = dy.flatten(0, 1).contiguous()  # [B * H, T, D]
        row_sums = (dy.transpose(1, 2) * y).sum(-1).transpose(1, 2).reshape(B * H, T, 1)
        dk = dv = flat_dy  # set by the last block, which sees all keys
        step = 2 if ctx.dropped else 1
        for i, (start, stop) in reversed(list(enumerate(blocks(T)))):
            weights, kept = tables[step * i], tables[step * i + step - 1]
            block_dy = flat_dy[:, start:stop]
            block_dv = torch.bmm(kept.mT, block_dy)  # [B * H, S, D]
            dscores = torch.bmm(block_dy, flat_v[:, :stop].mT)  # [B * H, N, S]
            dscores.mul_(kept).addcmul_(weights, row_sums[:, start:stop], value=-1)
            block_dk = torch.bmm(dscores.mT, flat_q[:, start:stop])
            block_dq = torch.bmm(dscores, flat_k[:, :stop]).view(B, H, -1, D)
            torch.mul(block_dq.transpose(1, 2), D**-0.5, out=dq[:, start:stop])
            if stop == T:
                dk, dv = block_dk, block_dv
            else:
                dk[:, :stop] += block_dk
                dv[:, :stop] += block_dv
        dk = _rows_first(dk.unflatten(0, (B, H)), D**-0.5)
        return dq.transpose(1, 2), dk, _rows_first(dv.unflatten(0, (B, H)), 1.0), None


def blocks(n_rows: int) -> list[tuple[int, int]]:
    """(start, stop) of each block of queries."""
    return [(start, min(start + BLOCK_ROWS, n_rows)) for start in range(0, n_rows, BLOCK_ROWS)]


def _future(start: int, stop: int, like: Tensor) -> Tensor:
    """Causal mask: -inf where a key is later than the query, else 0: [N, S]."""
    table = torch.full((stop - start, stop), float("-inf"), dtype=like.dtype, device=like.device)
    return table.triu(start + 1)


def _rows_first(x: Tensor, factor: float) -> Tensor:
    """x times a factor, stored as [B, T, H, D]: [B, H, T, D]."""
    B, H, T, D = x.shape
    result = torch.empty(B, T, H, D, dtype=x.dtype, device=x.device)
    return torch.mul(x.transpose(1, 2), factor, out=result).transpose(1, 2)
