"""CPU load of other programs, which lengthens every timing.

Tests: tests/hardware/test_other_load.py.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

STAT = Path("/proc/stat")
TICKS = 100
"""Linux counts times in /proc/stat in hundredths of a second (proc(5), USER_HZ)."""


class LoadMeter:
    """Measures, from its creation on, how many of this process's CPUs other programs keep busy."""

    def __init__(self) -> None:
        self._began = _Reading.now()

    @property
    def measures_now(self) -> bool:
        """Whether the load since its creation is measured, as on Linux.

        Elsewhere `processors` uses the average of the last minute.
        """
        return self._began.all_seconds is not None

    def processors(self) -> float | None:
        """Average number of CPUs that other programs kept busy; None if unknown."""
        end = _Reading.now()
        seconds = end.clock - self._began.clock
        if end.all_seconds is None or self._began.all_seconds is None:
            average = load_average()
            own_seconds = end.own_seconds - self._began.own_seconds
            return None if average is None else max(0.0, average - own_seconds / 60)
        if seconds <= 0:
            return None
        others = (end.all_seconds - self._began.all_seconds) - (
            end.own_seconds - self._began.own_seconds
        )
        return max(0.0, others / seconds)


class _Reading:
    """Seconds of processor time so far: of all programs on our processors, and of this one."""

    def __init__(self, clock: float, own_seconds: float, all_seconds: float | None) -> None:
        self.clock = clock
        self.own_seconds = own_seconds
        self.all_seconds = all_seconds

    @classmethod
    def now(cls) -> _Reading:
        own = os.times()
        return cls(time.monotonic(), own.user + own.system, _busy_seconds())


def _busy_seconds() -> float | None:
    """Busy seconds of this process's CPUs since boot; None if unknown."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    total = 0
    try:
        for line in STAT.read_text().splitlines():
            name, *ticks = line.split() or [""]
            if name in names:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
                total += user + nice + system + irq + softirq + steal
    except (OSError, ValueError):
        return None
    return total / TICKS or None


def load_average() -> float | None:
    """Average number of running programs in the last minute; None on Windows."""
    with suppress(AttributeError, OSError):
        return os.getloadavg()[0]
    return None
