"""Let waiting threads sleep early, so that training stays fast beside other programs.

PyTorch splits an operation over the cores with OpenMP. A thread that has done its part waits in a
loop for the others and for the next operation, because waking a sleeping thread takes longer. While
another program holds a core, that loop occupies the core which the slower thread needs. GNU's
OpenMP, which PyTorch has on Linux, repeats the loop 300,000 times before the thread sleeps.
Tests: tests/hardware/test_waiting_threads.py. Gain: benchmarks/waiting_threads.py.
Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html.
"""

from __future__ import annotations

import os

ALONE = 10_000
"""The fewest repetitions that cost nothing on an idle machine, in training and in generation."""
BESIDE_OTHERS = 100
MAX_IDLE = 0.25
"""CPUs that other programs keep busy on a machine that counts as idle, at most."""


def let_waiting_threads_sleep(busy: float | None) -> None:
    """Make waiting threads of this process sleep early; call it before torch is imported.

    Variables by which the user chose how threads wait stay in charge.

    Args:
        busy: CPUs that other programs keep busy; None if unknown.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        alone = busy is None or busy <= MAX_IDLE
        os.environ.setdefault("GOMP_SPINCOUNT", str(ALONE if alone else BESIDE_OTHERS))
