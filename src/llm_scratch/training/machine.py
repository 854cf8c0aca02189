"""What this machine can do and hold: its matrix rate, its memory's speed, how much memory is left, how much we took.

Rates are measured, never looked up in a table of chips: what counts is what this machine gives this process now.
Proof: tests/training/test_machine.py.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from llm_scratch.model.products import use_fast_float32

SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}  # of the square matrices that are multiplied: large enough to be at full speed


def timings(work: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """The seconds that `work` took, each of as many times as fit into about `seconds`: at least two, after a first that does not count."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        times.append(time.perf_counter() - start)
    return times[1:]


def fastest(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The shortest of `timings`, in seconds: what the machine can do when nobody else asks it for anything."""
    return min(timings(work, device, seconds))


def matrix_rate(device: torch.device, dtype: torch.dtype = torch.float32, seconds: float = 0.15) -> float:
    """FLOP/s of a large matrix product by the library that all products go through: the speed that nothing here can beat. Measured once."""
    return _matrix_rate(str(device), dtype, seconds, torch.get_num_threads())


@lru_cache
def _matrix_rate(device: str, dtype: torch.dtype, seconds: float, threads: int) -> float:
    where = torch.device(device)
    if where.type == "cpu":
        use_fast_float32()
    n = SIDE.get(where.type, SIDE["cpu"])
    a, out = torch.full((n, n), 0.5, device=where, dtype=dtype), torch.empty(n, n, device=where, dtype=dtype)
    return 2 * n**3 / fastest(lambda: torch.mm(a, a, out=out), where, seconds)


def read_bandwidth(device: torch.device, seconds: float = 0.15) -> float:
    """Bytes a second that a sum over a large tensor reads: the speed of everything that is not a matrix product."""
    x = torch.ones(2**30 if device.type == "cuda" else 2**25, device=device)  # zeros that nobody wrote are one page, read again and again
    return x.nbytes / fastest(x.sum, device, seconds)


def peak_memory(device: torch.device) -> int | None:
    """Bytes that this process has held at most: on a GPU what torch allocated there, else resident memory; None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") or _getrusage()


def resident_memory() -> int | None:
    """Bytes of main memory that this process holds now; None where nobody says."""
    return _status("VmRSS") or _getrusage()


def _status(field: str) -> int | None:
    """A line of Linux's /proc/self/status, in bytes."""
    kilobytes = _number("/proc/self/status", rf"^{field}:\s+(\d+) kB")
    return None if kilobytes is None else kilobytes * 1024


def _getrusage() -> int | None:
    """The same where there is no /proc; a process may inherit its parent's peak here."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory(device: torch.device | None = None, root: Path = Path("/")) -> int | None:
    """Bytes that a new program can have here: free memory, or less where a container may not use all of it. None: nobody says.

    Args:
        device: a GPU's own memory, where it is one.
        root: where /proc and /sys lie.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    return None if available is None else min([available * 1024, *_left_in_containers(root)])


def _left_in_containers(root: Path) -> list[int]:
    """What each control group that this process is in leaves of its limit, in bytes: version 2, and version 1 of memory's own tree.

    Memory that only keeps files which were read is given back on demand, so it counts as left.
    """
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    left = []
    for _, kinds, path in groups:
        if kinds not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / kinds
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        here = base / path.lstrip("/")
        for folder in {base, here, *(p for p in here.parents if p.is_relative_to(base))}:
            room, taken = _number(folder / limit), _number(folder / used)
            if room is not None and taken is not None:  # the outermost group has no limit, and "max" is none
                left.append(max(0, room - taken + (_number(folder / "memory.stat", r"^(?:total_)?inactive_file (\d+)") or 0)))
    return left


def _number(path: Path | str, pattern: str = r"^(\d+)$") -> int | None:
    """The number that a small file holds, or a line of it; None where there is none."""
    try:
        with open(path, encoding="ascii") as file:  # asked after every step, so not by way of pathlib, which takes twice as long
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
