"""Let waiting threads sleep, so that training stays fast beside other programs.

PyTorch splits an operation over the cores with OpenMP. A thread that has done its part waits in a
loop for the others and for the next operation, because waking a sleeping thread takes longer. While
another program holds a core, that loop occupies the core which the slower thread needs: beside one
busy program on two cores, threads that sleep train twice as fast.
Tests: tests/hardware/test_waiting_threads.py. Gain: benchmarks/waiting_threads.py.
Source: https://gcc.gnu.org/onlinedocs/libgomp/OMP_005fWAIT_005fPOLICY.html.
"""

from __future__ import annotations

import os

MAX_IDLE = 0.25
"""CPUs that other programs keep busy on a machine that counts as idle, at most."""


def let_waiting_threads_sleep(busy: float | None) -> None:
    """Make waiting threads of this process sleep, if other programs are busy.

    It has no effect after torch was imported, or if the user chose how threads wait.

    Args:
        busy: CPUs that other programs keep busy; None if unknown.
    """
    if busy is not None and busy > MAX_IDLE:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
