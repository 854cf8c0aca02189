"""Let waiting threads sleep, so that training stays fast beside other programs.

PyTorch splits an operation over the cores with OpenMP. A thread that has done its part waits in a
loop for the others and for the next operation, because waking a sleeping thread takes longer. While
another program holds a core, that loop occupies the core which the slower thread needs. On two
cores, threads that sleep train a small model 1.9 times as fast beside a busy program, and half as
fast without one.
Tests: tests/hardware/test_waiting_threads.py. Gain: benchmarks/waiting_threads.py.
Source: https://gcc.gnu.org/onlinedocs/libgomp/OMP_005fWAIT_005fPOLICY.html.
"""

from __future__ import annotations

import os

from llm_scratch.hardware.other_load import LoadMeter, load_average
from llm_scratch.hardware.processor import cpu_count

BUSY_SHARE = 0.25
"""of the cores that other programs keep busy, from which waiting threads sleep"""


def let_waiting_threads_sleep(meter: LoadMeter) -> None:
    """Make waiting threads of this process sleep if other programs keep the machine busy.

    They must be busy now and in the last minute: neither a program that has just ended nor a short
    one counts. It has no effect after torch was imported, if the user chose how threads wait, or
    where only the load of the last minute is known: that would count our own last command.

    Args:
        meter: of the other programs' load now.
    """
    now, lately = meter.processors(), load_average()
    if not meter.measures_now or now is None or lately is None:
        return
    if min(now, lately) > BUSY_SHARE * cpu_count():
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
