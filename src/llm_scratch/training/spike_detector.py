"""Skip optimizer steps with a non-finite or outlier loss; after three in a row, roll back.

A step is checked before it changes the weights. A bad one is skipped together with its batch. Three
in a row suggest that the weights themselves are bad, so the run restores its last checkpoint and
skips past the data since. The check is computed on the loss's device, so a GPU is never waited for.
Tests: tests/training/test_spike_detector.py, tests/reliability/test_n_divergence.py.
Source: window and deviations as in levanter, https://github.com/marin-community/levanter; rollback
past the data as for PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.training import fault_injection
from llm_scratch.training.distributed import local_shard

WINDOW = 128  # good steps that define the usual loss; with fewer, nothing counts as a spike
MAX_CONSECUTIVE_BAD = 3  # bad steps in a row that cause a rollback
MAX_ROLLBACKS = 3  # rollbacks before training counts as diverged
MIN_RELATIVE_STD = 1e-3  # least standard deviation, as a share of the mean: a constant loss has no spikes


def is_finite(loss: Tensor, norm: Tensor) -> Tensor:
    """Whether loss and gradient norm are finite: a bool tensor on their device."""
    return torch.isfinite(loss) & torch.isfinite(norm)


class SpikeDetector:
    """Detect loss spikes by the mean and standard deviation of recent losses.

    Args:
        sigmas: standard deviations above the mean from which a loss is a spike; 0: only
            non-finite values are bad.
        device: of the losses.
    """

    def __init__(self, sigmas: float = 0.0, device: torch.device | str = "cpu") -> None:
        self.sigmas = sigmas
        self.losses = torch.zeros(WINDOW, device=device)
        self.known = torch.zeros((), dtype=torch.int64, device=device)

    def accept(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether a step may change the weights: a bool tensor. A good step enters the statistics."""
        good = is_finite(loss, norm)
        if self.sigmas:
            std, mean = torch.std_mean(self.losses)
            usual = loss <= mean + self.sigmas * torch.maximum(std, MIN_RELATIVE_STD * mean.abs())
            good &= usual | (self.known < WINDOW)
            self.losses = torch.where(good, torch.cat([self.losses[1:], loss[None]]), self.losses)
            self.known = self.known + good
        return good

    def state(self) -> dict[str, Any]:
        """The recent losses, as JSON."""
        return {"losses": self.losses.tolist(), "known": int(self.known)}

    def restore(self, stored: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.losses = torch.tensor(stored["losses"], device=self.losses.device)
        self.known = torch.tensor(stored["known"], device=self.known.device)


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


@dataclass(frozen=True)
class RecoveryState:
    """Skipped steps and rollbacks of a run; part of its checkpoints."""

    consecutive_bad: int = 0
    """consecutive bad steps up to now"""
    skipped: int = 0
    """bad steps in total; none changed a weight"""
    rollbacks: int = 0
    """rollbacks"""
    skipped_batches: int = 0
    """batches that rollbacks skipped: the offset of the data order"""

    def after(self, good: bool) -> RecoveryState:
        """The state after one more step."""
        return (
            replace(self, consecutive_bad=0) if good else replace(self, consecutive_bad=self.consecutive_bad + 1, skipped=self.skipped + 1)
        )


FAULTY = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "spike": 1000.0}  # factors of a loss


@contextmanager
def inject_fault(model: nn.Module, step: int) -> Iterator[None]:
    """Inject the requested fault of this step into loss or gradient (see fault_injection.py).

    Args:
        model: returns the loss.
        step: counted from 1, as in metrics.jsonl.
    """
    loss = fault_injection.requested_fault("step", step)
    gradient = fault_injection.requested_fault("gradient", step)
    hooks = []
    if loss is not None:
        hooks.append(model.register_forward_hook(lambda _module, _args, out: out * FAULTY[loss]))
    if gradient is not None:
        hooks.append(next(model.parameters()).register_post_accumulate_grad_hook(partial(_corrupt, FAULTY[gradient])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _corrupt(value: float, weight: Tensor) -> None:
    """Set the first element of a weight's gradient."""
    grad = local_shard(weight.grad)  # type: ignore[arg-type]
    grad.view(-1)[:1] = value
