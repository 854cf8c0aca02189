"""Fused output head and cross-entropy in chunks, without a table of all logits.

With GPT-2's vocabulary the logits of 4,096 tokens take 823 MB, and plain cross-entropy holds three
such tables. Here each chunk of rows gets its logits, loss and gradient at once, then its logits are
freed. The result is that of `loss.next_token_loss(head(x), targets, "sum")`.
Tests: tests/model/test_chunked_loss.py (values and gradients).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.language_model import LanguageModel, as_language_model
from llm_scratch.model.loss import IGNORE, next_token_loss

MAX_LOGITS = {"cpu": 2**25, "cuda": 2**28}  # of a chunk; a GPU needs larger ones

Product = Callable[[Tensor, Tensor], Tensor]


def total_loss(
    model: nn.Module, inputs: Tensor, targets: Tensor, product: Product = F.linear
) -> Tensor:
    """Sum of the loss over all targets of a batch, in nats: a scalar.

    Chunked for a model with `hidden(ids) -> [B, T, C]` and an `out_head` without a bias, whose
    output are the logits, else plain.

    Args:
        model: a language model.
        inputs: token ids, [B, T].
        targets: [B, T]; `IGNORE` for positions without a target.
        product: computes the chunked logits, as `F.linear` does.
    """
    model = as_language_model(model)
    head = model.out_head
    limited = type(model).logits is not LanguageModel.logits
    if limited or not isinstance(head, nn.Linear) or head.bias is not None:
        return next_token_loss(model(inputs), targets, "sum")
    return head_loss(model.hidden(inputs), head.weight, targets, product)


def head_loss(x: Tensor, weight: Tensor, targets: Tensor, product: Product = F.linear) -> Tensor:
    """Cross-entropy of `x @ weight.T`, summed over the targets that are not `IGNORE`, in nats.

    Args:
        x: [B, T, C].
        weight: [V, C], the head.
        targets: [B, T].
        product: as in `total_loss`.
    """
    needs_grad = torch.is_grad_enabled()
    loss = _HeadLoss.apply(x.flatten(0, -2), weight, targets.flatten(), needs_grad, product)
    # Up to torch 2.10, autocast would give the copy of `weight` that it made there, which has no
    # gradient, to every later product with `weight`.
    torch.clear_autocast_cache()
    return loss


class _HeadLoss(torch.autograd.Function):
    """Computes the gradients in the forward pass, while the logits of a chunk are in memory."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, needs_grad: bool, product: Product
    ) -> Tensor:
        max_rows = max(1, MAX_LOGITS.get(x.device.type, MAX_LOGITS["cuda"]) // len(weight))
        n_chunks = max(1, math.ceil(len(x) / max_rows))
        rows = max(1, math.ceil(len(x) / n_chunks))  # equal chunks: a short last one is slow
        total = torch.zeros((), device=x.device)
        dx = torch.empty_like(x)
        dweight = None
        for chunk in (slice(start, start + rows) for start in range(0, len(x), rows)):
            counted = (targets[chunk] != IGNORE)[:, None]  # [N, 1]
            labels = targets[chunk].clamp(min=0)[:, None]  # [N, 1]
            logits = product(x[chunk], weight)  # [N, V]
            dtype = logits.dtype
            log_probs = logits.float().log_softmax(-1)  # [N, V]
            del logits
            total -= (log_probs.gather(1, labels) * counted).sum()
            if not needs_grad:
                continue
            grad_logits = log_probs.exp_()  # [N, V]: probabilities, minus 1 at the label
            grad_logits.scatter_add_(1, labels, grad_logits.new_full((1, 1), -1).expand_as(labels))
            grad_logits = grad_logits.to(dtype)  # [N, V]; once, not per product as by autocast
            dx[chunk] = (grad_logits @ weight) * counted
            chunk_dweight = grad_logits.mT @ (x[chunk] * counted)
            dweight = (
                chunk_dweight.to(weight.dtype) if dweight is None else dweight.add_(chunk_dweight)
            )
        ctx.gradients = (dx, dweight)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        dx, dweight = ctx.gradients
        ctx.gradients = None  # without a second reference, autograd can accumulate in place
        return dx.mul_(grad_outputs[0]), dweight.mul_(grad_outputs[0]), None, None, None
