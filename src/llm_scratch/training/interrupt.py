"""Ctrl-C and SIGTERM while training: the step in progress is finished and saved first.

A second Ctrl-C stops at once. Proof: tests/training/test_loop.py.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether somebody asked to stop, and by which signal (2 is Ctrl-C, 15 is SIGTERM)."""

    asked: bool = False
    number: int = 0


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Catch Ctrl-C, SIGTERM and SIGHUP inside the block; only the main thread can, elsewhere nothing is caught."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked, stop.number = True, number

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
