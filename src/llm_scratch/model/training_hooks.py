"""What a part of a model may add to training: a term of the loss, and a change after each step.

A part sets `extra_loss` in its forward pass during training, and may define `after_step`. The
trainer has no code for particular parts, such as mixtures of experts: it adds up all terms and
calls the method of each part.
Tests: tests/model/test_training_hooks.py.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from llm_scratch.model.loss import IGNORE


class TrainingHooks(nn.Module):
    """Base class of parts with a loss of their own or a change without a gradient.

    Attributes:
        counted: [B, T], which tokens of the batch in training have a target, for terms that leave
            out padding; None: all.
        extra_loss: the term of the last forward pass in training, a scalar summed over its tokens;
            None: no term.
    """

    counted: Tensor | None = None
    extra_loss: Tensor | None = None

    def after_step(self, good: Tensor, all_reduce_mean: Callable[[Tensor], Tensor]) -> None:
        """Change what has no gradient, after the optimizer's step.

        Args:
            good: whether the step changed the weights, as a tensor on their device.
            all_reduce_mean: averages a tensor over all processes, which must all call it.
        """


def hooked_parts(model: nn.Module) -> list[TrainingHooks]:
    """The parts of a model that add to its training."""
    return [part for part in model.modules() if isinstance(part, TrainingHooks)]


def set_counted(model: nn.Module, targets: Tensor) -> None:
    """Set `counted` of every part of a model for the next batch: the tokens with a target.

    Args:
        model: without such parts, nothing is computed.
        targets: [B, T]; `IGNORE` for positions without a target.
    """
    if parts := hooked_parts(model):
        counted = targets != IGNORE
        for part in parts:
            part.counted = counted


def add_extra_loss(loss: Tensor, model: nn.Module) -> Tensor:
    """Let the gradient of a loss include the terms of the model's parts.

    The value stays the loss itself, so that models with and without such terms can be compared.
    Each term is used once.

    Args:
        loss: of the last forward pass; a scalar, the sum over its targets.
        model: its parts may have set `extra_loss` in that pass.
    """
    for part in hooked_parts(model):
        if part.extra_loss is not None:
            loss = loss + (part.extra_loss - part.extra_loss.detach())
            part.extra_loss = None
    return loss


def after_step(model: nn.Module, good: Tensor, all_reduce_mean: Callable[[Tensor], Tensor]) -> None:
    """Call `TrainingHooks.after_step` of every part of a model.

    Activation checkpointing sets terms once more in the backward pass; they are dropped here.
    """
    for part in hooked_parts(model):
        part.counted = part.extra_loss = None
        part.after_step(good, all_reduce_mean)
