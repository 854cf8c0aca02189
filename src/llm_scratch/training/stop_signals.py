"""Handle Ctrl-C, SIGTERM and SIGHUP during training: finish the current step and save, then stop.

A second Ctrl-C stops at once. A signal that is ignored from the start (as under `nohup`) stays
ignored.
Tests: tests/training/test_stop_signals.py, tests/training/test_loop.py,
tests/reliability/test_r07_signals.py.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@dataclass
class StopRequest:
    """Whether a stop was requested, and by which signal (1: SIGHUP, 2: Ctrl-C, 15: SIGTERM)."""

    signum: int = 0

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.signum != 0


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Catch Ctrl-C, SIGTERM and SIGHUP inside the block.

    Only the main thread can; elsewhere this does nothing.
    """
    stop = StopRequest()
    interrupts = 0
    # before they go away, when isatty is False
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += signum == signal.SIGINT
        if interrupts > 1:  # torchrun sends SIGTERM after a Ctrl-C, so only a second Ctrl-C counts
            raise KeyboardInterrupt
        if not stop.requested:
            stop.signum = signum
        if signum not in (signal.SIGINT, signal.SIGTERM):
            _redirect_to_devnull(terminals)

    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    caught = [signum for signum, handler in before.items() if handler != signal.SIG_IGN]
    for signum in caught:
        signal.signal(signum, handle)
    try:
        yield stop
    finally:
        for signum in caught:
            signal.signal(signum, before[signum])


def _redirect_to_devnull(streams: list[int]) -> None:
    """Send the output of a closed terminal to /dev/null, where printing does not fail."""
    for stream in streams:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream)
        os.close(devnull)
