"""Ctrl-C, SIGTERM and SIGHUP while training: the step in progress is finished and saved first.

A second Ctrl-C stops at once. A signal that whoever started the process has turned off (as `nohup` does) stays off.
Proof: tests/training/test_stop_signals.py, tests/training/test_loop.py, tests/reliability/test_r07_signals.py.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class StopRequest:
    """Whether somebody asked to stop, and by which signal (1: the terminal went away, 2: Ctrl-C, 15: SIGTERM)."""

    requested: bool = False
    signum: int = 0

    @property
    def code(self) -> int:
        """The exit code that says which: 129, 130, 143."""
        return 128 + self.signum


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Catch Ctrl-C, SIGTERM and SIGHUP inside the block; only the main thread can, elsewhere nothing is caught."""
    stop, pressed = StopRequest(), 0
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]  # asked now: one that went away says no
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += number == signal.SIGINT
        if pressed > 1:  # torchrun sends SIGTERM after a Ctrl-C; only a second Ctrl-C is impatience
            raise KeyboardInterrupt
        if not stop.requested:
            stop.requested, stop.signum = True, number
        if number not in (signal.SIGINT, signal.SIGTERM):
            _redirect_to_devnull(terminals)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    for number in taken:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _redirect_to_devnull(streams: list[int]) -> None:
    """Lead output that went to a terminal nowhere: it is gone, and a line printed to it would be an error before the save."""
    for stream in streams:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream)
        os.close(nowhere)
