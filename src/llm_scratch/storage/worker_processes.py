"""Worker processes, or a reason to do without them: a machine may lack shared memory, a script its main guard.

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
"""Exit code of a worker in which the user's script, imported to start it, began to start workers itself."""


@contextmanager
def worker_pool(
    workers: int, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of worker processes, of which the first has started; None, with a warning, if none can start.

    The processes are spawned, so that they begin the same on every system. The pool is shut down after the block.

    Args:
        workers: processes; with 1 there is no pool and no warning.
        initializer, initargs: what each process calls first.
    Raises:
        UserError: a worker ended while it was needed (code 6).
        SystemExit: this process is a worker itself that still imports the user's script.
    """
    check_main_guard()
    if workers == 1:
        yield None
        return
    try:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer, initargs)
    except (OSError, ImportError, NotImplementedError) as e:  # no semaphores here, as without /dev/shm
        _warn(describe_error(e, named=True))
        yield None
        return
    processes = pool._processes  # by process id; the pool itself forgets them when it breaks
    try:
        reason = _why_not_started(pool, processes)
        if reason:
            _warn(reason)
        yield None if reason else pool
    except BrokenProcessPool as e:
        pool.shutdown()  # waits, so that the exit codes are known
        raise UserError(f"a worker {how_it_ended(processes)}; the same command with fewer workers goes on", RESOURCES) from e
    finally:
        pool.shutdown(cancel_futures=True)


def can_have_workers() -> bool:
    """Whether this system has the semaphores that worker processes need; a warning with the reason if not."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as e:
        _warn(describe_error(e, named=True))
        return False
    return True


def check_main_guard() -> None:
    """End this process if it is a worker that is being started and imports the user's script, which asks for workers again.

    Python imports a script anew in each process that it spawns. Without `if __name__ == "__main__":` its work begins anew there.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(NO_MAIN_GUARD)


def how_it_ended(processes: Mapping[int, BaseProcess]) -> str:
    """How the first process that failed ended: the pool sends SIGTERM to the others."""
    codes = [process.exitcode for process in processes.values() if process.exitcode]
    code = next((code for code in codes if code != -signal.SIGTERM), codes[0] if codes else None)
    if code is None:
        return "could not be made ready"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended from outside ({name}{', maybe for lack of memory' if name == 'SIGKILL' else ''})"


def _why_not_started(pool: ProcessPoolExecutor, processes: Mapping[int, BaseProcess]) -> str:
    """Wait for the first worker to start; "", or why none can."""
    try:
        pool.submit(os.getpid).result()
    except OSError as e:
        return describe_error(e, named=True)
    except BrokenProcessPool:
        pool.shutdown()
        if any(process.exitcode == NO_MAIN_GUARD for process in processes.values()):
            return 'the script that needs them has no `if __name__ == "__main__":` around its work'
        return f"the first one {how_it_ended(processes)}"
    return ""


def _warn(reason: str) -> None:
    warnings.warn(f"worker processes cannot start ({reason}); all work is done in this process", RuntimeWarning, stacklevel=4)
