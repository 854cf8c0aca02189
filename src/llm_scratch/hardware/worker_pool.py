"""Worker processes, on systems that can start them.

Processes exchange data through semaphores. Systems without them exist (containers without /dev/shm, cloud functions);
whether this is one is found by making a pool.
Tests: tests/hardware/test_worker_pool.py, tests/machines (no shared memory).
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def start_worker_pool(
    workers: int, initializer: Callable[..., Any] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor | None:
    """A pool of fresh Python processes; None after a warning on a system that cannot have one.

    Args:
        workers: how many processes; 1 is None without a warning, as this process can do the work.
        initializer, initargs: called in each process before its first task.
    """
    if workers == 1:
        return None
    try:
        return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer, initargs)
    except (OSError, ImportError, NotImplementedError) as e:
        warnings.warn(f"cannot start worker processes ({e}); continuing in this process alone", stacklevel=3)
        return None
