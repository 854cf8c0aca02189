"""How much main or GPU memory is free, and how much this process has taken.

Tests: tests/hardware/test_memory.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch


def peak_memory(device: torch.device) -> int | None:
    """Peak memory of this process in bytes, on a GPU torch's; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") or _getrusage()


def resident_memory() -> int | None:
    """Resident main memory of this process in bytes; None if unknown."""
    return _status("VmRSS") or _getrusage()


def _status(field: str) -> int | None:
    """One field of Linux's /proc/self/status, in bytes."""
    kilobytes = _number("/proc/self/status", rf"^{field}:\s+(\d+) kB")
    return None if kilobytes is None else kilobytes * 1024


def _getrusage() -> int | None:
    """Peak resident memory without /proc; a child may inherit its parent's peak here."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def free_memory(device: torch.device | None = None, root: Path = Path("/")) -> int | None:
    """Memory available to a new program in bytes, also in a container; None if unknown.

    Args:
        device: a GPU, for its own memory instead.
        root: the folder that contains /proc and /sys.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = _number(root / "proc/meminfo", r"^MemAvailable:\s+(\d+) kB")
    return None if available is None else min([available * 1024, *_left_in_containers(root)])


def _left_in_containers(root: Path) -> list[int]:
    """Bytes left under the limit of each of this process's control groups (cgroup v2, v1).

    Page cache of files is reclaimed on demand, so it counts as available.
    """
    try:
        groups = [
            line.split(":", 2)
            for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        ]
    except OSError:
        return []
    left = []
    for _, kinds, path in groups:
        if kinds not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / kinds
        if kinds:
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            limit, used = "memory.max", "memory.current"
        group = base / path.lstrip("/")
        for folder in {base, group, *(p for p in group.parents if p.is_relative_to(base))}:
            room, taken = _number(folder / limit), _number(folder / used)
            # the root group has no limit, and "max" means none
            if room is not None and taken is not None:
                cached = _number(folder / "memory.stat", r"^(?:total_)?inactive_file (\d+)") or 0
                left.append(max(0, room - taken + cached))
    return left


def _number(path: Path | str, pattern: str = r"^(\d+)$") -> int | None:
    """The number in a small file, or in the line that matches `pattern`; None if there is none."""
    try:
        # called after every step; pathlib takes twice as long
        with open(path, encoding="ascii") as file:
            match = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None
