"""A rehearsal: one training step and one look with tensors that have a shape and no content, to count what they would hold.

Nothing is computed and nothing is allocated, so a model of any size is rehearsed on any machine in about a second; and as it is the
model's own code that runs, whatever it keeps for the way back is counted, in every architecture and with every optimizer.
Proof: tests/planning/test_memory_estimate.py (equal to the bytes that a real step holds).
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
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import checkpoint_activations
from llm_scratch.training.precision import Precision

FLOAT32 = Precision("float32", "as asked")


class AllocationTracker(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make inside the block, from when each is made until nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:  # the parts of a sparse one are seen as they are made
                self._track(tensor.untyped_storage())
        return out

    def _track(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._untrack, key, storage.nbytes())

    def _untrack(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def reset_peak(self) -> None:
        """Forget the highest count, and go on from what is held now."""
        self.peak = self.now


@dataclass(frozen=True)
class MemoryEstimate:
    """What the tensors of a run hold, in bytes. The first three stay; of the others only the largest is there at a time."""

    weights: int
    gradients: int
    optimizer: int
    step: int
    """most that a micro-batch holds on its way forward and back: activations, logits, their gradients"""
    update: int
    """most that moving the weights takes besides"""
    evaluation: int
    """most that evaluating a micro-batch holds"""

    @property
    def peak(self) -> int:
        """The most that is held at a time."""
        return self.weights + self.gradients + self.optimizer + max(self.step, self.update, self.evaluation)


def estimate_memory(config: RunConfig, device: torch.device | str = "cpu", precision: Precision = FLOAT32) -> MemoryEstimate:
    """Count what a run holds, without holding it.

    Args:
        config: the run.
        device: what it will compute on; kernels differ in what they keep.
        precision: of the products.
    """
    cfg, T = config.train, config.model.context_length
    with FakeTensorMode(), torch.device(device), AllocationTracker() as held:
        model = build(config.model)
        if config.machine.recompute:
            checkpoint_activations(model)
        trainee, optimizer = ModelWithLoss(model, precision), OPTIMIZERS[cfg.optimizer](model, cfg)
        weights, start = sum(p.nbytes for p in model.parameters()), held.now
        ids = torch.zeros(cfg.batch_size // cfg.micro_batches, T, dtype=torch.long)  # [B, T]
        held.reset_peak()
        trainee(ids, ids).backward()
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        if cfg.micro_batches > 1:  # the second adds to gradients that are all there
            held.reset_peak()
            trainee(ids, ids).backward()
        step, before = held.peak - start - gradients, held.now
        held.reset_peak()
        optimizer.step()
        kept = sum(value.nbytes for slots in optimizer.state.values() for value in slots.values() if isinstance(value, Tensor))
        update = held.peak - before - kept
        trainee.eval()
        start = held.now
        held.reset_peak()
        with torch.no_grad():  # `step.mean_loss` evaluates in micro-batches too
            trainee(ids, ids)
        look = held.peak - start
    return MemoryEstimate(weights, gradients, kept, step, update, look)
