"""Worker processes: a failed start is a warning; a failed task is an error with its cause."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import worker_processes
from llm_scratch.storage.worker_processes import (
    NO_MAIN_GUARD,
    check_main_guard,
    exit_description,
    worker_pool,
)

SCRIPT = """
import sys, warnings
from llm_scratch.storage.worker_processes import worker_pool
{guard}
    with worker_pool(2) as pool:
        print(sum(map(abs, [-1, -2])) if pool is None else sum(pool.map(abs, [-1, -2])))
"""


def run(script, *words):
    """Run a script in a new process, whose workers import it."""
    return subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=120
    )


def test_worker_processes_do_the_work_when_they_start(tmp_path):
    (tmp_path / "guarded.py").write_text(SCRIPT.format(guard='if __name__ == "__main__":'))
    done = run(tmp_path / "guarded.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_pool_is_not_started_without_a_main_guard(tmp_path):
    (tmp_path / "bare.py").write_text(SCRIPT.format(guard="if True:"))
    done = run(tmp_path / "bare.py")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert "worker processes cannot start (the script has no `if __name__" in done.stderr
    assert "using this process" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        OSError(38, "Function not implemented"),
        ImportError("no synchronize"),
        NotImplementedError("few"),
    ],
)
def test_pool_is_not_started_without_semaphores(error, monkeypatch):
    """Simulate a system without /dev/shm."""

    def fail(*_):
        raise error

    monkeypatch.setattr(worker_processes, "ProcessPoolExecutor", fail)
    with (
        pytest.warns(
            RuntimeWarning, match=f"cannot start .{type(error).__name__}.*; using this process"
        ),
        worker_pool(2) as pool,
    ):
        assert pool is None


def test_one_worker_runs_in_this_process_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with worker_pool(1) as pool:
            assert pool is None


def test_work_runs_in_process_when_workers_cannot_be_initialized(capfd):
    with (
        pytest.warns(RuntimeWarning, match="the first one failed to initialize"),
        worker_pool(2, int, ("no number",)) as pool,
    ):
        assert pool is None
    assert "invalid literal for int()" in capfd.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_killed_worker_is_an_error_with_the_signal():
    message = r"a worker was killed \(SIGKILL, possibly out of memory\)"
    with pytest.raises(UserError, match=message) as error, worker_pool(2) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL).result()
    assert error.value.code == RESOURCES


def test_error_of_a_worker_is_raised():
    with pytest.raises(ZeroDivisionError), worker_pool(2) as pool:
        pool.submit(divmod, 1, 0).result()


@pytest.mark.parametrize(
    ("codes", "want"),
    [
        ([-signal.SIGTERM, -9], "was killed (SIGKILL, possibly out of memory)"),
        ([None, 3, -signal.SIGTERM], "ended with exit code 3"),
        ([-signal.SIGTERM], "was killed (SIGTERM)"),
        ([-99], "was killed (signal 99)"),
        ([0, None], "failed to initialize"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="signals have other numbers there")
def test_first_failed_worker_is_reported(codes, want):
    assert (
        exit_description(
            {number: SimpleNamespace(exitcode=code) for number, code in enumerate(codes)}
        )
        == want
    )


def test_worker_that_imports_the_script_starts_no_pool(monkeypatch):
    check_main_guard()
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit) as error:
        check_main_guard()
    assert error.value.code == NO_MAIN_GUARD
