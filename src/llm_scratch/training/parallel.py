"""Train one model on several processes: data parallel (DDP) or sharded (FSDP2).

Also applies activation checkpointing.

DDP: every rank holds the whole model, and gradients are averaged during the backward pass.
FSDP2: every rank holds an equal shard of all weights, gradients and optimizer state. A block's
weights are gathered when it runs, and freed afterwards: N ranks hold 1/N of the state each and
communicate half as much again as DDP.
Activation checkpointing: a block keeps only its input for the backward pass and recomputes the
rest. None of them changes what is computed, only where values are stored.
Tests: tests/training/test_parallel.py, tests/reliability/test_w04_w06_processes.py. Arithmetic:
docs/scale.md.
Source: DDP, Li et al. 2020, https://arxiv.org/abs/2006.15704; FSDP, Zhao et al. 2023,
https://arxiv.org/abs/2304.11277; activation checkpointing, Chen et al. 2016,
https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from llm_scratch.config import SystemConfig, TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.model.language_model import as_language_model
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.model_with_loss import ModelWithLoss


def check_batch_size(cfg: TrainConfig, distributed: Distributed) -> None:
    """Check that a batch divides evenly among the ranks.

    Raises:
        UserError: it does not; names the nearest batch sizes that do.
    """
    if cfg.batch_size % distributed.size:
        below = cfg.batch_size // distributed.size * distributed.size
        near = " or ".join(str(size) for size in (below, below + distributed.size) if size)
        raise UserError(
            f"batch_size={cfg.batch_size} rows cannot be divided evenly among {distributed.size}"
            f" processes; try {near}"
        )


def micro_batches(cfg: TrainConfig, distributed: Distributed) -> int:
    """Micro-batches per rank: the fewest that are no larger than those of a single process."""
    return -(-cfg.micro_batches // distributed.size)


def parallelize(
    model_with_loss: ModelWithLoss, system: SystemConfig, distributed: Distributed
) -> nn.Module:
    """Wrap a model for this job: `(inputs, targets) -> summed loss` over this rank's rows.

    Args:
        model_with_loss: the same on every rank, on the CPU or on its device.
        system: its `parallel` and `activation_checkpointing` apply.
        distributed: the processes.
    """
    if system.activation_checkpointing:
        checkpoint_activations(model_with_loss.model)
    if distributed.size == 1:
        return model_with_loss
    # timings on other ranks may choose differently
    choices = distributed.broadcast(model_with_loss.choices())
    if not distributed.is_main:
        model_with_loss.restore_choices(choices, SystemConfig(), distributed.device)
    for part in model_with_loss.modules():
        if isinstance(part, nn.Embedding):
            part.sparse = False  # gradients of other ranks are added to a dense table
    if system.parallel == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(distributed.device.type, (distributed.size,))
        for block in blocks_of(model_with_loss.model):
            fully_shard(block, mesh=mesh)
        fully_shard(model_with_loss, mesh=mesh)
        return model_with_loss
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(model_with_loss, gradient_as_bucket_view=True)


def gradient_sync(
    wrapped_model: nn.Module, last: bool, distributed: Distributed
) -> AbstractContextManager[object]:
    """The context of a micro-batch: gradients add up locally; the `last` one reduces them."""
    if distributed.size == 1:
        return nullcontext()
    if hasattr(wrapped_model, "set_requires_gradient_sync"):  # FSDP2
        wrapped_model.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()
    return nullcontext() if last else wrapped_model.no_sync()  # type: ignore[operator]


def reshard(wrapped_model: nn.Module) -> None:
    """Free the gathered parameters: no backward pass after an evaluation makes FSDP2 do it."""
    if hasattr(wrapped_model, "reshard"):
        wrapped_model.reshard()  # type: ignore[operator]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a model; [] if it has no `trf_blocks`."""
    return list(as_language_model(model).trf_blocks)


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute each block in the backward pass from its input, with the same dropout mask."""
    from torch.utils.checkpoint import checkpoint

    def recomputed(forward: Any, *args: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False)

    for block in blocks_of(model):
        block.forward = functools.partial(recomputed, block.forward)
