"""What stands between a bad step and the weights: a loss or gradient that is no number, and a loss far above the usual.

A step is judged before it moves the weights. A bad one is passed over: its batch is gone, nothing moved, and the run goes on; three in
a row mean that the weights themselves are in a bad place, and the run goes back to its last checkpoint and on with other text.
The judgement is made of tensors where the loss is, so that a GPU is not waited for.
Proof: tests/training/test_spike_detector.py, tests/reliability/test_n_divergence.py.
Source: window and deviations as in levanter, https://github.com/marin-community/levanter; going back and past the text as for PaLM,
Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5.1.
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

WINDOW = 128  # good steps whose losses say what is usual; before there are so many, nothing counts as a spike
MAX_CONSECUTIVE_BAD = 3  # bad steps in a row after which the run goes back
MAX_ROLLBACKS = 3  # times that it goes back, before it gives up
MIN_RELATIVE_STD = 1e-3  # share of the mean that counts as deviation at least: a loss that stands still has no spikes


def is_finite(loss: Tensor, norm: Tensor) -> Tensor:
    """Whether loss and length of the gradient are finite: a bool on the device."""
    return torch.isfinite(loss) & torch.isfinite(norm)


class SpikeDetector:
    """Knows the losses of the last good steps, and judges the next one.

    Args:
        sigmas: standard deviations above their mean from which a loss is a spike; 0: only what is no number is bad.
        device: where losses come from.
    """

    def __init__(self, sigmas: float = 0.0, device: torch.device | str = "cpu") -> None:
        self.sigmas = sigmas
        self.losses = torch.zeros(WINDOW, device=device)
        self.known = torch.zeros((), dtype=torch.int64, device=device)

    def accept(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether a step may move the weights: a bool on the device. A good one is remembered."""
        good = is_finite(loss, norm)
        if self.sigmas:
            std, mean = torch.std_mean(self.losses)
            usual = loss <= mean + self.sigmas * torch.maximum(std, MIN_RELATIVE_STD * mean.abs())
            good &= usual | (self.known < WINDOW)
            self.losses = torch.where(good, torch.cat([self.losses[1:], loss[None]]), self.losses)
            self.known = self.known + good
        return good

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON."""
        return {"losses": self.losses.tolist(), "known": int(self.known)}

    def restore(self, said: dict[str, Any]) -> None:
        """Know again what `state` said."""
        self.losses = torch.tensor(said["losses"], device=self.losses.device)
        self.known = torch.tensor(said["known"], device=self.known.device)


def step_if(good: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer move the weights if the step is good.

    On a CPU that is asked. A GPU is not waited for: fused optimizers take a flag there by which they leave everything as it is, as they
    do for torch's gradient scaler; one that does not know it costs a wait.
    """
    if good.device.type == "cuda" and getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif good:
        optimizer.step()


@dataclass(frozen=True)
class RecoveryState:
    """What a run has been through; part of its checkpoints."""

    streak: int = 0
    """bad steps in a row, up to now"""
    skipped: int = 0
    """bad steps in all, on which no weight was moved"""
    returns: int = 0
    """times that the run went back to a checkpoint"""
    shift: int = 0
    """batches that it is ahead in the text, for not having read those again that it went back over"""

    def after(self, good: bool) -> RecoveryState:
        """The same after one more step."""
        return replace(self, streak=0) if good else replace(self, streak=self.streak + 1, skipped=self.skipped + 1)


FAULTY = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "spike": 1000.0}  # what a loss is multiplied by


@contextmanager
def inject_fault(model: nn.Module, step: int) -> Iterator[None]:
    """Inside the block, loss or gradient have the fault that was ordered for this step (see faults.py); none without an order.

    Args:
        model: gives the loss when it is called.
        step: counted from 1, as in metrics.jsonl.
    """
    loss, gradient = fault_injection.requested_fault("step", step), fault_injection.requested_fault("gradient", step)
    hooks = []
    if loss is not None:
        hooks.append(model.register_forward_hook(lambda part, given, out: out * FAULTY[loss]))
    if gradient is not None:
        hooks.append(next(model.parameters()).register_post_accumulate_grad_hook(partial(_corrupt, FAULTY[gradient])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _corrupt(number: float, weight: Tensor) -> None:
    """Put a number into one place of a weight's gradient."""
    grad = local_shard(weight.grad)  # type: ignore[arg-type]
    grad.view(-1)[:1] = number
