"""Distributed training: this process among those of a torchrun job, and collective operations.

`init_distributed` reads what torchrun sets. A process started without torchrun is the only
rank of its job: no communication, and every collective returns its input. Rank 0 writes the run.

    torchrun --nproc-per-node 4 -m llm_scratch train gpt2-small

Tests: tests/training/test_distributed.py, tests/reliability/test_w04_w06_processes.py.
Memory and communication per process count: docs/scale.md.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from llm_scratch.errors import UserError, describe_error
from llm_scratch.training.launcher import SINGLE_PROCESS_HINT, launched_rank, rendezvous_address

T = TypeVar("T")
CONNECTION_ERRORS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL",
    "gloo",
)


@dataclass(frozen=True)
class Distributed:
    """This process in a job: `rank` of `size` processes, computing on `device`."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes logs and checkpoints and prints to the terminal."""
        return self.rank == 0

    def all_reduce_mean(self, x: Tensor) -> Tensor:
        """The mean over all ranks, with the same bits on each. Any shape."""
        if self.size == 1:
            return x
        from torch import distributed

        total = x.clone()
        distributed.all_reduce(total)
        return total / self.size

    def all_reduce_max(self, value: int) -> int:
        """The largest value of all ranks."""
        if self.size == 1:
            return value
        from torch import distributed

        largest = torch.tensor(value)  # on the CPU, so that no GPU is waited for
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on all ranks. Any object that can be pickled."""
        if self.size == 1:
            return value
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Broadcast rank 0's tensors one by one: a rank holds one that is not its own."""
        if self.size == 1:
            yield from tensors.items()
            return
        from torch import distributed

        described = self.broadcast([(name, t.shape, t.dtype) for name, t in tensors.items()])
        for name, shape, dtype in described:
            if self.is_main:
                tensor = tensors[name].to(self.device)
            else:
                tensor = torch.empty(shape, dtype=dtype, device=self.device)
            distributed.broadcast(tensor, src=0)
            yield name, tensor

    def gather(self, tensors: Mapping[str, Tensor], copies: bool = False) -> dict[str, Tensor]:
        """Unshard tensors for rank 0, on its CPU; the other ranks get none. A collective call.

        Args:
            tensors: by name, sharded or not.
            copies: return copies on the CPU in every case, so that training may continue.
        """
        unsharded = (
            (name, full_tensor(tensor), is_sharded(tensor)) for name, tensor in tensors.items()
        )
        return {
            name: full.to("cpu", copy=copies) if was_sharded or copies else full
            for name, full, was_sharded in unsharded
            if self.is_main
        }


def is_sharded(tensor: Tensor) -> bool:
    """Whether each rank holds a shard of the tensor (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """The unsharded tensor; a collective call.

    A tensor that is not sharded is returned as it is.
    """
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def local_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(mine: Tensor, full: Tensor) -> Tensor:
    """This rank's shard of `full`, sharded as `mine` is.

    Returns `full` if `mine` is not sharded or has another shape.
    """
    if not is_sharded(mine) or mine.shape != full.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = mine.device_mesh, mine.placements  # type: ignore[attr-defined]
    return distribute_tensor(full.to(mine.device), mesh, placements, src_data_rank=None)


@contextmanager
def init_distributed(device: str | torch.device) -> Iterator[Distributed]:
    """Join the process group of the torchrun job for the duration of the block.

    Nested blocks share it.

    Args:
        device: what to compute on; under torchrun "cuda" is the GPU with this process's local rank.
    Raises:
        UserError: the environment describes an incomplete job, the processes cannot connect, or
            another process ended.
    """
    launch = launched_rank()
    rank = launch.rank
    size = launch.size
    where = torch.device(device)
    if size > 1 and where.type not in ("cpu", "cuda"):
        raise UserError(
            f"several processes cannot train together on {where.type};"
            " use --device cpu, or one process"
        )
    if size > 1 and where.type == "cuda" and where.index is None:
        where = torch.device("cuda", launch.local_rank)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)  # for the random state to save, and the stream of the steps
    if size == 1:
        yield Distributed(device=where)
        return
    from torch import distributed

    outermost = not distributed.is_initialized()
    if outermost:
        _connect(where, rank, size)
    try:
        yield Distributed(rank, size, where)
    except RuntimeError as e:
        if not any(sign in str(e) for sign in CONNECTION_ERRORS):
            raise
        raise UserError(
            f"rank {rank} of {size} lost contact with another rank; see torchrun's report for the"
            " one that ended, and run the same command to resume from the last checkpoint"
            f" ({describe_error(e)})",
            code=LOST_PROCESS,
        ) from e
    # not after an error: other ranks may be gone, and leaving the group would wait for them
    if outermost:
        with suppress(RuntimeError):  # the work is done, whatever happened to the other ranks since
            distributed.destroy_process_group()


def _connect(device: torch.device, rank: int, size: int) -> None:
    """Join the process group; if the other processes take long, report once that this one waits.

    torch waits for up to half an hour inside a call that Ctrl-C does not interrupt, so the call
    runs in a thread.

    Raises:
        UserError: the environment does not say where to connect, or connecting failed.
    """
    from torch import distributed

    where = rendezvous_address()
    errors: list[Exception] = []

    def connect() -> None:
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)  # the current device is per thread
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            )
            # the first rank keeps the addresses of all: it must not end before the others have them
            distributed.all_reduce(torch.zeros(1))
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(WAIT_NOTICE_SECONDS)
    if thread.is_alive():
        others = f"rank {1 - rank}" if size == 2 else f"the other {size - 1} ranks"
        message = (
            f"rank {rank} of {size} is waiting for {others} to connect at {where};"
            f" {SINGLE_PROCESS_HINT}"
        )
        print(message, file=sys.stderr, flush=True)
        thread.join()
    if errors:
        reason = " ".join(str(errors[0]).split("\n")[0].split())[:160]
        raise UserError(
            f"cannot connect to the other processes at {where} ({reason}); {SINGLE_PROCESS_HINT}"
        ) from errors[0]


WAIT_NOTICE_SECONDS = 5.0
"""How long a process waits for the others before it prints that it waits."""
LOST_PROCESS = 1
"""Exit code of a process that ends because another one ended."""
