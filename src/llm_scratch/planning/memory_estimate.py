"""Estimate the memory of a run: trace a training step and an evaluation without content.

Nothing is computed or allocated, so a model of any size takes about a second on any machine. The
model's own code runs, so everything it keeps for the backward pass is counted, for every
architecture and optimizer.
Tests: tests/planning/test_memory_estimate.py (equal to the bytes of a real step).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llm_scratch.config import RunConfig
from llm_scratch.model import build
from llm_scratch.training.model_with_loss import FLOAT32, ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import checkpoint_activations
from llm_scratch.training.precision import Precision


class AllocationTracker(TorchDispatchMode):
    """Count the bytes of all tensors created inside the block, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._tracked: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            # The components of a sparse tensor are counted when they are created.
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self._track(tensor.untyped_storage())
        return out

    def _track(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._tracked:
            return
        self._tracked.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._untrack, key, storage.nbytes())

    def _untrack(self, key: int, size: int) -> None:
        self._tracked.discard(key)
        self.now -= size

    def reset_peak(self) -> None:
        """Restart the peak from the current size."""
        self.peak = self.now


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a run's tensors: three permanent parts, of the others only the largest at a time."""

    weights: int
    gradients: int
    optimizer: int
    step: int
    """peak of a micro-batch's forward and backward pass: activations, logits, their gradients"""
    update: int
    """peak of the optimizer step, in addition"""
    evaluation: int
    """peak of evaluating a micro-batch"""

    @property
    def peak(self) -> int:
        """The largest total at any time."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + max(self.step, self.update, self.evaluation)
        )


def estimate_memory(
    config: RunConfig, device: torch.device | str = "cpu", precision: Precision = FLOAT32
) -> MemoryEstimate:
    """Count the bytes of a run's tensors, without allocating them.

    Args:
        config: the run.
        device: of the computation; kernels differ in what they keep.
        precision: of the matrix products.
    """
    cfg = config.train
    T = config.model.context_length
    with FakeTensorMode(), torch.device(device), AllocationTracker() as tracker:
        model = build(config.model)
        if config.system.activation_checkpointing:
            checkpoint_activations(model)
        model_with_loss = ModelWithLoss(model, precision)
        optimizer = OPTIMIZERS[cfg.optimizer](model, cfg)
        weights = sum(p.nbytes for p in model.parameters())
        start = tracker.now
        ids = torch.zeros(cfg.batch_size // cfg.micro_batches, T, dtype=torch.long)  # [B, T]
        tracker.reset_peak()
        model_with_loss(ids, ids).backward()
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        if cfg.micro_batches > 1:  # the second micro-batch adds to gradients that exist already
            tracker.reset_peak()
            model_with_loss(ids, ids).backward()
        step = tracker.peak - start - gradients
        before = tracker.now
        tracker.reset_peak()
        optimizer.step()
        kept = sum(
            value.nbytes
            for slots in optimizer.state.values()
            for value in slots.values()
            if isinstance(value, Tensor)
        )
        update = tracker.peak - before - kept
        model_with_loss.eval()
        start = tracker.now
        tracker.reset_peak()
        with torch.no_grad():  # `step.mean_loss` evaluates in micro-batches too
            model_with_loss(ids, ids)
        evaluation = tracker.peak - start
    return MemoryEstimate(weights, gradients, kept, step, update, evaluation)
