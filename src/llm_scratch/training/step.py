"""One training step: how wrong, in which direction, move. And the same question without moving: `mean_loss`.

Proof: tests/training/test_step.py (micro-batches = one batch). Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.data.loader import TokenLoader
from llm_scratch.model.loss import IGNORE
from llm_scratch.model.running import evaluating


class StepResult(NamedTuple):
    """What a step measured; tensors, so that nobody has to wait for the device before the next step is under way."""

    loss: Tensor
    """nats per token"""
    norm: Tensor
    """length of the gradient before clipping"""
    tokens: Tensor
    """targets that were asked"""


def train_step(
    trainee: nn.Module, optimizer: torch.optim.Optimizer, batches: list[tuple[Tensor, Tensor]], max_norm: float | None
) -> StepResult:
    """One optimizer step over micro-batches, weighted by their tokens, so that N of them equal one large batch exactly.

    Args:
        trainee: `(inputs, targets) -> summed loss`, as `trainee.Trainee` makes it of a model.
        batches: (inputs, targets), each [B, T].
        max_norm: longest gradient; longer ones are scaled down to it. None: only measured.
    """
    asked = torch.stack([(targets != IGNORE).sum() for _, targets in batches]).sum()
    total = torch.zeros((), device=asked.device)
    optimizer.zero_grad(set_to_none=True)
    for inputs, targets in batches:
        loss = trainee(inputs, targets) / asked
        loss.backward()
        total += loss.detach()
    norm = nn.utils.clip_grad_norm_(trainee.parameters(), math.inf if max_norm is None else max_norm)
    if torch.isfinite(norm):  # a gradient that is not finite must not reach the weights
        optimizer.step()
    return StepResult(total, norm, asked)


@torch.no_grad()
def mean_loss(trainee: nn.Module, loader: TokenLoader, batches: int | None, device: torch.device) -> float:
    """Nats per token over `batches` of a loader, spread over one pass (None: all), every token counting the same, dropout off."""
    total, asked = torch.zeros((), device=device), 0
    n = len(loader) if batches is None else min(batches, len(loader))
    with evaluating(trainee):
        for step in (i * len(loader) // n for i in range(n)):
            inputs, targets = (t.to(device) for t in loader.batch(step))
            total += trainee(inputs, targets)
            asked += int((targets != IGNORE).sum())
    return total.item() / asked
