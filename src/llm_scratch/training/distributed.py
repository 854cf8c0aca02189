"""The processes that train one model together, and the few things that they say to each other.

torchrun starts them and tells each which one it is; `joined` reads that. A process that nobody started so is a team of one: it says
nothing, and everything here gives back what it was given. Process 0 is the one that writes.

    torchrun --nproc-per-node 4 -m llm_scratch train gpt2-small

Proof: tests/training/test_distributed.py, tests/reliability/test_w04_w06_processes.py. How many, where, and what it costs: docs/scale.md.
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
from llm_scratch.training.launcher import ALONE, launched_rank, meeting_point

T = TypeVar("T")
CONNECTION_ERRORS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL", "gloo")


@dataclass(frozen=True)
class Distributed:
    """This process among those that train together: number `rank` of `size`, computing on `device`."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes logs and checkpoints, and talks to the terminal."""
        return self.rank == 0

    def all_reduce_mean(self, x: Tensor) -> Tensor:
        """The mean over all processes, the same bits in each. Any shape."""
        if self.size == 1:
            return x
        from torch import distributed

        total = x.clone()
        distributed.all_reduce(total)
        return total / self.size

    def all_reduce_max(self, number: int) -> int:
        """The highest of the processes' numbers: how they agree on what only some of them know."""
        if self.size == 1:
            return number
        from torch import distributed

        said = torch.tensor(number)  # on the CPU: nobody waits for a GPU
        distributed.all_reduce(said, distributed.ReduceOp.MAX)
        return int(said)

    def broadcast(self, what: T) -> T:
        """What process 0 has, for all."""
        if self.size == 1:
            return what
        from torch import distributed

        said = [what]
        distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Process 0's tensors by name for all, one after the other, so that nobody holds more than one that he does not keep."""
        if self.size == 1:
            yield from tensors.items()
            return
        from torch import distributed

        for name, shape, dtype in self.broadcast([(name, t.shape, t.dtype) for name, t in tensors.items()]):
            tensor = tensors[name].to(self.device) if self.is_main else torch.empty(shape, dtype=dtype, device=self.device)
            distributed.broadcast(tensor, src=0)
            yield name, tensor

    def gather(self, tensors: Mapping[str, Tensor], copies: bool = False) -> dict[str, Tensor]:
        """Tensors that are whole, for process 0 to write; the others get none. What is held in shares is put together on its CPU.

        Args:
            copies: what it gets is all on the CPU, and its own: training may go on.
        """
        whole_ones = ((name, full_tensor(tensor), is_sharded(tensor)) for name, tensor in tensors.items())
        return {name: full.to("cpu", copy=copies) if apart or copies else full for name, full, apart in whole_ones if self.is_main}


def is_sharded(tensor: Tensor) -> bool:
    """Whether the processes hold a share of the tensor each (a DTensor)."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which each process holds a share, put together; all processes must ask. One that is whole already is itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def local_shard(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(mine: Tensor, full: Tensor) -> Tensor:
    """This process's share of `full`, cut as `mine` is; all of it where `mine` is whole, or of another shape (a counter)."""
    if not is_sharded(mine) or mine.shape != full.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None)  # type: ignore[attr-defined]


@contextmanager
def init_distributed(device: str | torch.device) -> Iterator[Distributed]:
    """The team that this process belongs to, for as long as the block lasts; a block inside finds the team of the one outside.

    Args:
        device: what to compute on; under torchrun "cuda" is the GPU with this process's number on its machine.
    Raises:
        UserError: the environment describes no complete team, its processes cannot connect, or another process of it ended.
    """
    here = launched_rank()
    rank, size = here.rank, here.size
    where = torch.device(device)
    if size > 1 and where.type not in ("cpu", "cuda"):
        raise UserError(f"several processes cannot train together on {where.type}; use --device cpu, or one process")
    if size > 1 and where.type == "cuda" and where.index is None:
        where = torch.device("cuda", here.local_rank)
    if where.type == "cuda" and where.index is not None:
        torch.cuda.set_device(where)  # whose random state is saved, and on whose stream a step is enqueued
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
            f"process {rank} of {size} lost another one: the report of torchrun names it and why it ended; "
            f"the same command goes on from the last checkpoint ({describe_error(e)})",
            code=LOST_PROCESS,
        ) from e
    if outermost:  # after an error the others may be gone already, and parting from them would wait for them
        with suppress(RuntimeError):  # the work is done, whatever became of the others since
            distributed.destroy_process_group()


def _connect(device: torch.device, rank: int, size: int) -> None:
    """Join the process group; if the other processes take long, say once that this one waits.

    torch waits for up to half an hour inside a call that Ctrl-C does not interrupt, so the call runs in a thread.

    Raises:
        UserError: the environment does not say where to connect, or connecting failed.
    """
    from torch import distributed

    where, errors = meeting_point(), list[Exception]()

    def connect() -> None:
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)  # the current device is a thread's own
            distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(WAIT_NOTICE_SECONDS)
    if thread.is_alive():
        others = f"process {1 - rank}" if size == 2 else f"the other {size - 1} processes"
        print(f"process {rank} of {size} is waiting for {others} to connect at {where}; {ALONE}", file=sys.stderr, flush=True)
        thread.join()
    if errors:
        reason = " ".join(str(errors[0]).split("\n")[0].split())[:160]
        raise UserError(f"cannot connect to the other processes at {where} ({reason}); {ALONE}") from errors[0]


WAIT_NOTICE_SECONDS = 5.0
"""How long a process waits for the others before it says so."""
LOST_PROCESS = 1
"""Exit code of a process that ends because another one did."""
