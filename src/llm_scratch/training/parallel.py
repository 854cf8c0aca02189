"""One model on many processes: each has all of it (DDP) or a share of it (FSDP2), and learns from its own rows of every batch.

DDP: every process holds the whole model, and gradients are averaged on the way back.
FSDP2: every process holds an equal share of each weight, gradient and optimizer number; a block's weights are put together when it is
their turn, and let go afterwards. N processes hold 1/N of the model each, and pass on half as much again.
Recomputing: what a block remembers for the way back is thrown away, and worked out again when it is needed.
Each of them changes where numbers lie, and none what is learned.
Proof: tests/training/test_parallel.py, tests/reliability/test_w04_w06_processes.py. Arithmetic: docs/scale.md.
Source: DDP, Li et al. 2020, https://arxiv.org/abs/2006.15704; FSDP, Zhao et al. 2023, https://arxiv.org/abs/2304.11277;
recomputing, Chen et al. 2016, https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from llm_scratch.config import SystemConfig, TrainConfig
from llm_scratch.errors import UserError
from llm_scratch.training.distributed import Distributed
from llm_scratch.training.model_with_loss import ModelWithLoss


def check_batch_size(cfg: TrainConfig, team: Distributed) -> None:
    """See that a batch can be dealt out evenly.

    Raises:
        UserError: it cannot; says which batch sizes could.
    """
    if cfg.batch_size % team.size:
        below = cfg.batch_size // team.size * team.size
        near = " or ".join(str(size) for size in (below, below + team.size) if size)
        raise UserError(f"batch_size={cfg.batch_size} rows cannot be dealt out evenly to {team.size} processes; try {near}")


def micro_batches(cfg: TrainConfig, team: Distributed) -> int:
    """Micro-batches that each process makes of its rows: as few as leave no part larger than it would be on one process."""
    return -(-cfg.micro_batches // team.size)


def parallelize(trainee: ModelWithLoss, machine: SystemConfig, team: Distributed) -> nn.Module:
    """The trainee as this team learns with it: `(inputs, targets) -> summed loss` over this process's rows.

    Args:
        trainee: the same in every process, on the CPU or on its device.
        machine: `parallel` and `recompute` are of interest here.
        team: the processes.
    """
    if machine.recompute:
        checkpoint_activations(trainee.model)
    if team.size == 1:
        return trainee
    choices = team.broadcast(trainee.choices())  # a trial may come out differently elsewhere
    if not team.is_main:
        trainee.restore_choices(choices, SystemConfig(), team.device)
    for part in trainee.modules():
        if isinstance(part, nn.Embedding):
            part.sparse = False  # the others' gradients are added to a whole table
    if machine.parallel == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(team.device.type, (team.size,))
        for block in blocks_of(trainee.model):
            fully_shard(block, mesh=mesh)
        fully_shard(trainee, mesh=mesh)
        return trainee
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(trainee, gradient_as_bucket_view=True)


def gradient_sync(learner: nn.Module, last: bool, team: Distributed) -> AbstractContextManager[object]:
    """The context of a micro-batch: gradients are added up at home, and with the `last` one over all processes."""
    if team.size == 1:
        return nullcontext()
    if hasattr(learner, "set_requires_gradient_sync"):  # FSDP2
        learner.set_requires_gradient_sync(last)  # type: ignore[operator]
        return nullcontext()
    return nullcontext() if last else learner.no_sync()  # type: ignore[operator]


def reshard(learner: nn.Module) -> None:
    """Have every process hold its share alone again: after a look there is no way back, on which FSDP2 would see to it."""
    if hasattr(learner, "reshard"):
        learner.reshard()  # type: ignore[operator]


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a model, or none where it does not say."""
    return list(getattr(model, "trf_blocks", []))


def checkpoint_activations(model: nn.Module) -> None:
    """Let every block keep its input alone, and do its work again on the way back; dropout then drops the same places again."""
    from torch.utils.checkpoint import checkpoint

    def again(forward: Any, *args: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False)

    for block in blocks_of(model):
        block.forward = functools.partial(again, block.forward)
