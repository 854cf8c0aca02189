"""Start worker processes, or explain why none can start.

Reasons are missing shared memory, or a script without a main guard.

Tests: tests/storage/test_worker_processes.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from llm_scratch.errors import RESOURCES, UserError, describe_error

NO_MAIN_GUARD = 113
"""Exit code of a worker in which importing the user's script started workers again."""


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor | None]:
    """Context manager for a pool of worker processes; None, with a warning, if none can start.

    Processes are spawned, as on every system. The pool is shut down after the block.

    Args:
        workers: number of processes; 1: no pool and no warning.
        initializer, initargs: called first in each process.
    Raises:
        UserError: a worker died (code 6).
        SystemExit: this process is itself a worker that is importing the user's script.
    """
    check_main_guard()
    if workers == 1:
        yield None
        return
    try:
        pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer, initargs
        )
    except (OSError, ImportError, NotImplementedError) as e:
        # no semaphores, for example without /dev/shm
        _warn(describe_error(e, named=True))
        yield None
        return
    processes = pool._processes  # by process id; a broken pool drops its own reference
    try:
        reason = _start_failure(pool, processes)
        if reason:
            _warn(reason)
        yield None if reason else pool
    except BrokenProcessPool as e:
        pool.shutdown()  # waits for the exit codes
        raise UserError(
            f"a worker {exit_description(processes)};"
            " run the same command with fewer workers to resume",
            RESOURCES,
        ) from e
    finally:
        pool.shutdown(cancel_futures=True)


def can_have_workers() -> bool:
    """Whether this system has the semaphores of worker processes; warns with the reason if not."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as e:
        _warn(describe_error(e, named=True))
        return False
    return True


def check_main_guard() -> None:
    """Exit if this process is a worker whose import of the user's script is starting workers again.

    Python imports the script in each spawned process.
    Without `if __name__ == "__main__":` this repeats its work there.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(NO_MAIN_GUARD)


def exit_description(processes: Mapping[int, BaseProcess]) -> str:
    """Describe how the first failed process ended; the pool sends SIGTERM to the others."""
    codes = [process.exitcode for process in processes.values() if process.exitcode]
    code = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else None)
    if code is None:
        return "failed to initialize"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed ({name}{', possibly out of memory' if name == 'SIGKILL' else ''})"


def _start_failure(pool: ProcessPoolExecutor, processes: Mapping[int, BaseProcess]) -> str:
    """Wait for the first worker to start; returns "" or why none can start."""
    try:
        pool.submit(os.getpid).result()
    except OSError as e:
        return describe_error(e, named=True)
    except BrokenProcessPool:
        pool.shutdown()
        if any(process.exitcode == NO_MAIN_GUARD for process in processes.values()):
            return 'the script has no `if __name__ == "__main__":` around its work'
        return f"the first one {exit_description(processes)}"
    return ""


def _warn(reason: str) -> None:
    warnings.warn(
        f"worker processes cannot start ({reason}); using this process",
        RuntimeWarning,
        stacklevel=4,
    )
