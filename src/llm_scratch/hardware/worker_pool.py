"""Worker processes, on systems that can have them.

Processes exchange data through semaphores and shared memory. Systems without these exist (containers without
/dev/shm, cloud functions); whether this is one is found by making a semaphore.
Tests: tests/hardware/test_worker_pool.py, tests/machines (no shared memory).
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def can_have_workers() -> bool:
    """Whether this system has semaphores for worker processes; a warning with the reason if not."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as e:
        warnings.warn(f"cannot start worker processes ({e}); continuing in this process alone", stacklevel=3)
        return False
    return True


def start_worker_pool(
    workers: int, initializer: Callable[..., Any] | None = None, initargs: tuple[Any, ...] = ()
) -> ProcessPoolExecutor | None:
    """A pool of new Python processes; None after a warning on a system that cannot have one.

    Args:
        workers: how many processes; 1 gives None without a warning, as this process can do the work.
        initializer, initargs: called in each process before its first task.
    """
    if workers == 1 or not can_have_workers():
        return None
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer, initargs)
