"""One training step: how wrong, in which direction, move. And the same question without moving: `mean_loss`.

Proof: tests/training/test_step.py (micro-batches = one batch, processes = one process). Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.data.loader import TokenLoader
from llm_scratch.model.introspection import eval_mode
from llm_scratch.model.loss import IGNORE
from llm_scratch.training.distributed import Distributed, full_tensor
from llm_scratch.training.parallel import gradient_sync
from llm_scratch.training.spike_detector import SpikeDetector, is_finite, step_if

SINGLE_PROCESS = Distributed()


class StepResult(NamedTuple):
    """What a step measured, over all processes; tensors, so that nobody has to wait for the device before the next step is under way."""

    loss: Tensor
    """nats per token"""
    norm: Tensor
    """length of the gradient before clipping"""
    tokens: Tensor
    """targets that were asked of a process, on average"""
    good: Tensor
    """whether the weights moved"""


def train_step(
    trainee: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
    max_norm: float | None,
    guard: SpikeDetector | None = None,
    team: Distributed = SINGLE_PROCESS,
) -> StepResult:
    """One optimizer step over micro-batches, weighted by their tokens, so that N of them equal one large batch exactly.

    The micro-batches of all processes are one batch too: each divides by the mean of what they were asked, and gradients are averaged.

    Args:
        trainee: `(inputs, targets) -> summed loss`, as `trainee.Trainee` makes it of a model.
        batches: (inputs, targets) of this process, each [B, T].
        max_norm: longest gradient; longer ones are scaled down to it. None: only measured.
        guard: says whether the weights may move; by default they may if loss and gradient are numbers.
        team: the processes that share the step.
    """
    asked = team.all_reduce_mean(torch.stack([(targets != IGNORE).sum() for _, targets in batches]).sum())
    total = torch.zeros((), device=asked.device)
    optimizer.zero_grad(set_to_none=True)
    for number, (inputs, targets) in enumerate(batches, 1):
        with gradient_sync(trainee, number == len(batches), team):
            loss = trainee(inputs, targets) / asked
            loss.backward()
        total += loss.detach()
    norm = full_tensor(nn.utils.clip_grad_norm_(trainee.parameters(), math.inf if max_norm is None else max_norm))
    loss, norm = team.all_reduce_mean(total), team.all_reduce_mean(norm)
    good = guard.accept(loss, norm) if guard else is_finite(loss, norm)
    step_if(good, optimizer)
    return StepResult(loss, norm, asked, good)


@torch.no_grad()
def mean_loss(trainee: nn.Module, loader: TokenLoader, batches: int | None, parts: int = 1, team: Distributed = SINGLE_PROCESS) -> float:
    """Nats per token over `batches` of a loader, spread over one pass (None: all), every token counting the same, dropout off.

    Args:
        parts: micro-batches that each process makes of its rows, to fit the memory.
        team: the processes that share the rows; computes on the team's device.
    """
    total = torch.zeros(2, device=team.device)  # nats, tokens
    n = len(loader) if batches is None else min(batches, len(loader))
    with eval_mode(trainee):
        for step in (i * len(loader) // n for i in range(n)):
            inputs, targets = (t.to(team.device) for t in _pad_to_multiple(loader.batch(step), team.size * parts))
            mine = slice(team.rank * parts, (team.rank + 1) * parts)
            for part in zip(inputs.chunk(team.size * parts)[mine], targets.chunk(team.size * parts)[mine]):
                total += torch.stack([trainee(*part), (part[1] != IGNORE).sum()])
    nats, asked = team.all_reduce_mean(total).tolist()
    return nats / asked


def _pad_to_multiple(batch: tuple[Tensor, Tensor], pieces: int) -> tuple[Tensor, Tensor]:
    """The batch with rows added that ask nothing, until it can be cut into equal pieces: processes must all have as much to do."""
    inputs, targets = batch
    missing = -len(inputs) % pieces
    return F.pad(inputs, (0, 0, 0, missing)), F.pad(targets, (0, 0, 0, missing), value=IGNORE)
