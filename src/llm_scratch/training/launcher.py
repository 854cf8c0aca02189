"""Which process of a distributed job this is, from the environment variables that torchrun sets; imports no torch.

Shells and job scripts keep such variables after the job that set them. What cannot belong to a job is reported here, so that it
neither silences a training nor makes it wait for processes that were never started.
Tests: tests/training/test_launcher.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from llm_scratch.errors import USAGE, UserError

ALONE = "unset RANK and WORLD_SIZE to train with one process, or start all processes with torchrun"


@dataclass(frozen=True)
class LaunchedRank:
    """This process among those of a job.

    Attributes:
        rank: its number, from 0.
        size: the world size, how many processes there are.
        local_rank: its number on this machine.
        leftover: variables that belong to no job and are ignored, as `RANK=1`; "" if there are none.
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
        """How many processes train together, or which variable is ignored; "" for a process that was started by itself."""
        if self.size > 1:
            return f"processes: {self.size}, as torchrun started them; rank 0 writes the run"
        if self.leftover:
            return f"warning: {self.leftover} is ignored: no WORLD_SIZE above 1 is set, so this is the only process"
        return ""


def launched_rank() -> LaunchedRank:
    """Rank and world size of this process; rank 0 of 1 if it is not part of a job.

    Raises:
        UserError: the variables contradict each other or are not numbers.
    """
    size = _number("WORLD_SIZE", 1)
    rank = _number("RANK", None if size > 1 else 0)
    if size < 1:
        raise UserError(f"WORLD_SIZE={size} must be at least 1; {ALONE}")
    if size == 1:
        return LaunchedRank(leftover=f"RANK={rank}" if rank else "")
    if not 0 <= rank < size:
        raise UserError(f"RANK={rank} is not one of the {size} processes of WORLD_SIZE={size}; {ALONE}")
    return LaunchedRank(rank, size, _number("LOCAL_RANK", 0))


def meeting_point() -> str:
    """Where the processes of a job connect, as `host:port`.

    Raises:
        UserError: the environment does not say where.
    """
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        size = os.environ.get("WORLD_SIZE")
        raise UserError(f"WORLD_SIZE={size} needs {' and '.join(missing)}, where the processes connect; {ALONE}", USAGE)
    _number("MASTER_PORT", None)
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"


def _number(name: str, default: int | None) -> int:
    """The whole number in an environment variable; without a default it has to be there."""
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    try:
        return int(text)
    except ValueError:
        problem = f"{name}={text!r} is not a whole number" if text else f"WORLD_SIZE={os.environ.get('WORLD_SIZE')} needs {name}"
        raise UserError(f"{problem}; {ALONE}") from None
