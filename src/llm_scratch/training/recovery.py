"""Decide after each step: keep it, skip it, or roll back to the last checkpoint.

A step is checked before it changes the weights. One with a non-finite or outlier loss is skipped
together with its batch. Three in a row suggest that the weights themselves are bad: the run then
restores its last checkpoint and skips past the data since. The check is computed on the loss's
device (`Recovery.accept`) and its result read later (`Recovery.decide`), so a GPU never waits.
Tests: tests/training/test_recovery.py, tests/reliability/test_n_divergence.py.
Source: window and deviations as in levanter, https://github.com/marin-community/levanter; rollback
past the data as for PaLM, Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, section 5.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.formatting import counted

WINDOW = 128  # good steps that define the usual loss; with fewer, nothing counts as a spike
MAX_CONSECUTIVE_BAD = 3  # bad steps in a row that cause a rollback
MAX_ROLLBACKS = 3  # rollbacks before training counts as diverged
MIN_RELATIVE_STD = (
    1e-3  # least standard deviation, as a share of the mean: a constant loss has no spikes
)
ADVICE = "Try a lower --train.lr, a longer --train.warmup-steps or --train.grad-clip 1.0"


class Decision(Enum):
    """What becomes of a step."""

    KEEP = "keep"
    SKIP = "skip"
    ROLLBACK = "rollback"


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
        """Whether a step may change the weights, a bool tensor; a good one is recorded."""
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

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.losses = torch.tensor(stored["losses"], device=self.losses.device)
        self.known = torch.tensor(stored["known"], device=self.known.device)


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


class Recovery:
    """Keep or skip each step of a run, or roll it back: spike statistics and counters.

    Args:
        sigmas: as for `SpikeDetector`.
        device: of the losses.
    """

    def __init__(self, sigmas: float = 0.0, device: torch.device | str = "cpu") -> None:
        self.spikes = SpikeDetector(sigmas, device)
        self.counts = RecoveryState()

    def accept(self, loss: Tensor, norm: Tensor) -> Tensor:
        """Whether an enqueued step may change the weights: a bool tensor on its loss's device."""
        return self.spikes.accept(loss, norm)

    def decide(self, accepted: bool) -> Decision:
        """Count a completed step, and decide what becomes of it.

        Args:
            accepted: the value of what `accept` returned for it.
        """
        now = self.counts
        if accepted:
            self.counts = replace(now, consecutive_bad=0)
            return Decision.KEEP
        self.counts = replace(now, consecutive_bad=now.consecutive_bad + 1, skipped=now.skipped + 1)
        if self.counts.consecutive_bad < MAX_CONSECUTIVE_BAD:
            return Decision.SKIP
        return Decision.ROLLBACK

    def count_rollback(self, before: RecoveryState, failed_at: int, step: int) -> str:
        """Count a rollback, after the checkpoint is restored; returns what happened, in words.

        Args:
            before: the counts before it; those of the checkpoint are out of date.
            failed_at: the last of the bad steps.
            step: that of the checkpoint.
        """
        batches = failed_at - step
        rollbacks = before.rollbacks + 1
        self.counts = replace(
            before,
            consecutive_bad=0,
            rollbacks=rollbacks,
            skipped_batches=before.skipped_batches + batches,
        )
        cause = _cause(before, failed_at)
        return (
            f"{cause}: rolled back to step {step},"
            f" skipping {counted(batches, 'batch', 'batches')}"
            f" (rollback {rollbacks} of {MAX_ROLLBACKS})"
        )

    def forget_losses(self) -> None:
        """Start the spike statistics again, where the learning rate is about to rise."""
        self.spikes = SpikeDetector(self.spikes.sigmas, self.spikes.losses.device)

    def state(self) -> dict[str, Any]:
        """Statistics and counts, as JSON for a checkpoint."""
        return {"spike_detector": self.spikes.state(), "recovery": asdict(self.counts)}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Restore what `state` returned; parts that an older checkpoint lacks start again."""
        if "spike_detector" in stored:
            self.spikes.restore(stored["spike_detector"])
        self.counts = RecoveryState(**stored.get("recovery", {}))


def diverged(counts: RecoveryState, failed_at: int, reason: str) -> UserError:
    """The error of a run that cannot roll back after bad steps (exit code 5)."""
    return UserError(
        f"{_cause(counts, failed_at)}, and {reason}: training diverged;"
        f" the last checkpoint is unchanged. {ADVICE}",
        DIVERGED,
    )


def _cause(counts: RecoveryState, failed_at: int) -> str:
    first_bad = failed_at - counts.consecutive_bad + 1
    return (
        f"steps {first_bad} to {failed_at} were bad (loss or gradient not finite,"
        " or far above the usual)"
    )


def describe_bad_step(row: Mapping[str, float]) -> str:
    """Why a step was skipped, in words.

    Args:
        row: of metrics.jsonl, with the finite ones of "skipped_loss" and "skipped_grad_norm".
    """
    if "skipped_loss" not in row:
        return "its loss is not finite"
    if "skipped_grad_norm" not in row:
        return "its gradient is not finite"
    return f"its loss, {row['skipped_loss']:.4g}, is far above the recent ones"
