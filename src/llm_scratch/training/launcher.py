"""Rank and world size of this process, from torchrun's environment variables; imports no torch.

Shells and job scripts may keep such variables after the job that set them. Values that cannot
belong to a job are reported here, so that they neither silence a training nor make it wait for
processes that were never started.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from llm_scratch.errors import USAGE, UserError

SINGLE_PROCESS_HINT = (
    "unset RANK and WORLD_SIZE to train with one process, or start all processes with torchrun"
)


@dataclass(frozen=True)
class LaunchedRank:
    """The place of this process in a job.

    Attributes:
        rank: its index, from 0.
        size: the world size, how many processes there are.
        local_rank: its index on this machine.
        leftover: variables that belong to no job and are ignored, as `RANK=1`; "" if there are
            none.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    leftover: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the logs and checkpoints."""
        return self.rank == 0

    @property
    def notice(self) -> str:
        """A line for the log: the process count, or an ignored variable; "" for one process."""
        if self.size > 1:
            return f"processes: {self.size}, as torchrun started them; rank 0 writes the run"
        if self.leftover:
            return (
                f"warning: {self.leftover} is ignored:"
                " WORLD_SIZE is not above 1, so this is the only process"
            )
        return ""


def launched_rank() -> LaunchedRank:
    """Rank and world size of this process; rank 0 of 1 if it is not part of a job.

    Raises:
        UserError: the variables contradict each other or are not numbers.
    """
    size = _number("WORLD_SIZE", 1)
    rank = _number("RANK", None if size > 1 else 0)
    if size < 1:
        raise UserError(f"WORLD_SIZE={size} must be at least 1; {SINGLE_PROCESS_HINT}")
    if size == 1:
        return LaunchedRank(leftover=f"RANK={rank}" if rank else "")
    if not 0 <= rank < size:
        raise UserError(
            f"RANK={rank} is not one of the {size} processes of WORLD_SIZE={size};"
            f" {SINGLE_PROCESS_HINT}"
        )
    return LaunchedRank(rank, size, _number("LOCAL_RANK", 0))


def rendezvous_address() -> str:
    """The address at which the processes of a job connect, as `host:port`.

    Raises:
        UserError: the environment does not define it.
    """
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        size = os.environ.get("WORLD_SIZE")
        raise UserError(
            f"WORLD_SIZE={size} needs {' and '.join(missing)}, where the processes connect;"
            f" {SINGLE_PROCESS_HINT}",
            USAGE,
        )
    _number("MASTER_PORT", None)
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _number(name: str, default: int | None) -> int:
    """The integer in an environment variable; without a default the variable is required."""
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    try:
        return int(text)
    except ValueError:
        if text:
            problem = f"{name}={text!r} is not a whole number"
        else:
            problem = f"WORLD_SIZE={os.environ.get('WORLD_SIZE')} needs {name}"
        raise UserError(f"{problem}; {SINGLE_PROCESS_HINT}") from None
