"""One training step: forward pass, backward pass, optimizer step.

And the loss without training: `mean_loss`.

Tests: tests/training/test_step.py (micro-batches = one batch, processes = one process).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.data.loader import BatchSource
from llm_scratch.model.introspection import eval_mode
from llm_scratch.model.loss import IGNORE
from llm_scratch.model.training_hooks import after_step
from llm_scratch.training.distributed import Distributed, full_tensor
from llm_scratch.training.parallel import gradient_sync
from llm_scratch.training.recovery import is_finite

SINGLE_PROCESS = Distributed()


class StepResult(NamedTuple):
    """Results of a step over all processes: tensors, so the next step can be enqueued first."""

    loss: Tensor
    """nats per token"""
    norm: Tensor
    """gradient norm before clipping"""
    tokens: Tensor
    """targets per process, on average"""
    good: Tensor
    """whether the weights changed"""


def train_step(
    model_with_loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
    grad_clip: float | None,
    accept: Callable[[Tensor, Tensor], Tensor] = is_finite,
    distributed: Distributed = SINGLE_PROCESS,
) -> StepResult:
    """One optimizer step over micro-batches, weighted by their tokens: N equal one large batch.

    So do the micro-batches of all processes: each process divides by the mean number of targets,
    and gradients are averaged.

    Args:
        model_with_loss: `(inputs, targets) -> summed loss`, a `ModelWithLoss`, wrapped or not.
        optimizer: of the model's parameters.
        batches: (inputs, targets) of this process, each [B, T].
        grad_clip: largest gradient norm; larger gradients are scaled down to it. None: no clipping.
        accept: whether a step with this loss and gradient norm changes the weights, as a tensor on
            their device.
        distributed: the processes that share the step.
    """
    n_targets = distributed.all_reduce_mean(
        torch.stack([(targets != IGNORE).sum() for _, targets in batches]).sum()
    )
    total = torch.zeros((), device=n_targets.device)
    optimizer.zero_grad(set_to_none=True)
    for number, (inputs, targets) in enumerate(batches, 1):
        with gradient_sync(model_with_loss, number == len(batches), distributed):
            loss = model_with_loss(inputs, targets) / n_targets
            loss.backward()
        total += loss.detach()
    norm = full_tensor(
        nn.utils.clip_grad_norm_(
            model_with_loss.parameters(), math.inf if grad_clip is None else grad_clip
        )
    )
    loss = distributed.all_reduce_mean(total)
    norm = distributed.all_reduce_mean(norm)
    good = accept(loss, norm)
    step_if(good, optimizer)
    after_step(model_with_loss, good, distributed.all_reduce_mean)
    return StepResult(loss, norm, n_targets, good)


def step_if(good: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Do the optimizer's step if `good`.

    On CPU we branch on the flag. On GPU that would synchronize, so fused optimizers get it as
    `found_inf`, as torch's gradient scaler does it; an optimizer without that support costs a wait.
    """
    if good.device.type == "cuda" and getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif good:
        optimizer.step()


@torch.no_grad()
def mean_loss(
    model_with_loss: nn.Module,
    source: BatchSource,
    batches: int | None,
    parts: int = 1,
    distributed: Distributed = SINGLE_PROCESS,
) -> float:
    """Mean loss in nats per token over a source of batches, without dropout.

    Every token has the same weight.

    Args:
        model_with_loss: `(inputs, targets) -> summed loss`.
        source: of the batches.
        batches: how many, spread evenly over one epoch; None: all.
        parts: micro-batches that each process makes of its rows, to fit the memory.
        distributed: the processes that share the rows.
    """
    total = torch.zeros(2, device=distributed.device)  # nats, tokens
    n = len(source) if batches is None else min(batches, len(source))
    with eval_mode(model_with_loss):
        for step in (i * len(source) // n for i in range(n)):
            inputs, targets = (
                t.to(distributed.device)
                for t in _pad_to_multiple(source.batch(step), distributed.size * parts)
            )
            mine = slice(distributed.rank * parts, (distributed.rank + 1) * parts)
            for part in zip(
                inputs.chunk(distributed.size * parts)[mine],
                targets.chunk(distributed.size * parts)[mine],
            ):
                total += torch.stack([model_with_loss(*part), (part[1] != IGNORE).sum()])
    nats, n_targets = distributed.all_reduce_mean(total).tolist()
    return nats / n_targets if n_targets else math.nan


def _pad_to_multiple(batch: tuple[Tensor, Tensor], pieces: int) -> tuple[Tensor, Tensor]:
    """Pad a batch with ignored rows until all processes can share it evenly."""
    inputs, targets = batch
    missing = -len(inputs) % pieces
    return F.pad(inputs, (0, 0, 0, missing)), F.pad(targets, (0, 0, 0, missing), value=IGNORE)
