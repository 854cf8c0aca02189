"""A rehearsal: one training step and one look with tensors that have a shape and no content, to count what they would hold.

Nothing is computed and nothing is allocated, so a model of any size is rehearsed on any machine in about a second; and as it is the
model's own code that runs, whatever it keeps for the way back is counted, in every architecture and with every optimizer.
Proof: tests/training/test_rehearsal.py (equal to the bytes that a real step holds).
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
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import recompute_blocks
from llm_scratch.training.precision import Precision
from llm_scratch.training.trainee import Trainee

FLOAT32 = Precision("float32", "as asked")


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make inside the block, from when each is made until nobody holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:  # the parts of a sparse one are seen as they are made
                self._see(tensor.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, storage.nbytes())

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def start_over(self) -> None:
        """Forget the highest count, and go on from what is held now."""
        self.peak = self.now


@dataclass(frozen=True)
class Memory:
    """What the tensors of a run hold, in bytes. The first three stay; of the others only the largest is there at a time."""

    weights: int
    gradients: int
    optimizer: int
    step: int
    """most that a micro-batch holds on its way forward and back: activations, logits, their gradients"""
    update: int
    """most that moving the weights takes besides"""
    look: int
    """most that evaluating a micro-batch holds"""

    @property
    def peak(self) -> int:
        """The most that is held at a time."""
        return self.weights + self.gradients + self.optimizer + max(self.step, self.update, self.look)


def rehearse(config: RunConfig, device: torch.device | str = "cpu", precision: Precision = FLOAT32) -> Memory:
    """Count what a run holds, without holding it.

    Args:
        config: the run.
        device: what it will compute on; kernels differ in what they keep.
        precision: of the products.
    """
    cfg, T = config.train, config.model.context_length
    with FakeTensorMode(), torch.device(device), Held() as held:
        model = build(config.model)
        if config.machine.recompute:
            recompute_blocks(model)
        trainee, optimizer = Trainee(model, precision), OPTIMIZERS[cfg.optimizer](model, cfg)
        weights, start = sum(p.nbytes for p in model.parameters()), held.now
        ids = torch.zeros(cfg.batch_size // cfg.micro_batches, T, dtype=torch.long)  # [B, T]
        held.start_over()
        trainee(ids, ids).backward()
        gradients = sum(p.grad.nbytes for p in model.parameters() if p.grad is not None)
        if cfg.micro_batches > 1:  # the second adds to gradients that are all there
            held.start_over()
            trainee(ids, ids).backward()
        step, before = held.peak - start - gradients, held.now
        held.start_over()
        optimizer.step()
        kept = sum(value.nbytes for slots in optimizer.state.values() for value in slots.values() if isinstance(value, Tensor))
        update = held.peak - before - kept
        trainee.eval()
        start = held.now
        held.start_over()
        with torch.no_grad():  # `step.mean_loss` evaluates in micro-batches too
            trainee(ids, ids)
        look = held.peak - start
    return Memory(weights, gradients, kept, step, update, look)
