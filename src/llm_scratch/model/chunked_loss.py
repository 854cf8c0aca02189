"""The loss without the table of all scores: the head and the cross-entropy in one, a few rows at a time.

With GPT-2's vocabulary the scores of 512 tokens are 103 MB, and the plain way holds them three times over. Here a piece of rows is
scored, its loss and gradient are taken at once, and the piece is forgotten. The numbers are those of
`loss.next_token_loss(head(x), targets, "sum")`.
Proof of value and gradient: tests/model/test_chunked_loss.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.model.loss import IGNORE, next_token_loss

MAX_LOGITS = {"cpu": 2**24, "cuda": 2**28}  # scores held at once; fewer, larger pieces keep a GPU busy


Product = Callable[[Tensor, Tensor], Tensor]


def total_loss(model: nn.Module, inputs: Tensor, targets: Tensor, product: Product = F.linear) -> Tensor:
    """Nats over all asked tokens of a batch, [B, T] each: a scalar.

    A model with `hidden(ids) -> [B, T, C]` and a plain matrix as `out_head` takes the short way, any other the plain one.

    Args:
        product: computes the logits of the short way, as `F.linear` does.
    """
    head = getattr(model, "out_head", None)
    if not (hasattr(model, "hidden") and isinstance(head, nn.Linear) and head.bias is None):
        return next_token_loss(model(inputs), targets, "sum")
    return head_loss(model.hidden(inputs), head.weight, targets, product)


def head_loss(x: Tensor, weight: Tensor, targets: Tensor, product: Product = F.linear) -> Tensor:
    """Cross-entropy of `x @ weight.T`, summed in nats over the targets that are not `IGNORE`.

    Args:
        x: [B, T, C].
        weight: [V, C], the head.
        targets: [B, T].
        product: as in `summed_loss`.
    """
    learning = torch.is_grad_enabled()
    loss = _HeadLoss.apply(x.flatten(0, -2), weight, targets.flatten(), learning, product)
    # Up to torch 2.10, autocast would give the copy of `weight` that it made there, which has no
    # gradient, to every later product with `weight`.
    torch.clear_autocast_cache()
    return loss


class _HeadLoss(torch.autograd.Function):
    """Takes the gradient on the way forward, while the scores of a piece are there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, learning: bool, product: Product) -> Tensor:
        most = max(1, MAX_LOGITS.get(x.device.type, MAX_LOGITS["cuda"]) // len(weight))
        n_pieces = max(1, math.ceil(len(x) / most))
        rows = max(1, math.ceil(len(x) / n_pieces))  # a short last piece would be a slow product
        total = torch.zeros((), device=x.device)
        dx, dweight = torch.empty_like(x), None
        for piece in (slice(start, start + rows) for start in range(0, len(x), rows)):
            asked, right = (targets[piece] != IGNORE)[:, None], targets[piece].clamp(min=0)[:, None]  # [N, 1] each
            scores = product(x[piece], weight)  # [N, V]
            dtype = scores.dtype
            likely = scores.float().log_softmax(-1)  # [N, V]
            del scores
            total -= (likely.gather(1, right) * asked).sum()
            if not learning:
                continue
            slope = likely.exp_()  # [N, V]: what was thought likely, less what came
            slope.scatter_add_(1, right, slope.new_full((1, 1), -1).expand_as(right))
            slope = slope.to(dtype)  # [N, V]: here once; under autocast each of the two products would do it
            dx[piece] = (slope @ weight) * asked
            of_piece = slope.mT @ (x[piece] * asked)
            dweight = of_piece.to(weight.dtype) if dweight is None else dweight.add_(of_piece)
        ctx.gradients = (dx, dweight)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (dx, dweight), ctx.gradients = ctx.gradients, None  # given away, so that what is added to them later can be added in place
        return dx.mul_(slopes[0]), dweight.mul_(slopes[0]), None, None, None
