"""Let waiting threads sleep early, so that training keeps its speed beside other programs.

PyTorch splits an operation over the cores with OpenMP. A thread that has done its part waits in a
loop for the others and for the next operation, because waking a sleeping thread takes longer. While
another program holds a core, that loop occupies the core which the slower thread needs. GNU's
OpenMP, which PyTorch has on Linux, repeats it 300,000 times before the thread sleeps.
Tests: tests/hardware/test_waiting_threads.py. Gain: LOG.md, 2026-11-30.
Source: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html.
"""

from __future__ import annotations

import os

REPETITIONS = 10_000
"""The fewest that cost nothing on an idle machine, neither in training nor in generation."""


def let_waiting_threads_sleep() -> None:
    """Make the threads of this process sleep after REPETITIONS; call it before torch is imported.

    Variables with which the user chose how threads wait stay in charge.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(REPETITIONS))
