"""The lock of a run directory: one holder, named to others, released however the holder ends."""

import errno
import json
import os
import socket
import subprocess
import sys

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.training import lock
from llm_scratch.training.lock import NAME, exclusive_writer

fcntl = pytest.importorskip("fcntl", reason="needs flock, which Windows does not have")


def test_lock_names_its_holder_and_is_removed(tmp_path):
    run = tmp_path / "new" / "run"
    with exclusive_writer(run, pytest.fail) as held:
        held.check()
        assert json.loads((run / NAME).read_text()) == {
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
    assert list(run.iterdir()) == []


def test_second_writer_error_names_the_lock_holder(tmp_path):
    who = f"process {os.getpid()} on {socket.gethostname()} trains there"
    with (
        exclusive_writer(tmp_path, pytest.fail),
        pytest.raises(UserError, match=f"is in use: {who}.*another --out") as error,
        exclusive_writer(tmp_path, pytest.fail),
    ):
        pass
    assert error.value.code == CHECKPOINT
    assert not (tmp_path / NAME).exists()
    with exclusive_writer(tmp_path, pytest.fail):
        pass


def test_second_writer_leaves_the_lock_in_place(tmp_path):
    with exclusive_writer(tmp_path, pytest.fail) as held:
        for _ in range(2):
            with (
                pytest.raises(UserError, match="is in use"),
                exclusive_writer(tmp_path, pytest.fail),
            ):
                pass
        held.check()


def test_lock_holder_is_unknown_until_it_is_written(tmp_path, monkeypatch):
    sleeps = []
    monkeypatch.setattr("llm_scratch.training.lock.sleep", sleeps.append)
    with exclusive_writer(tmp_path, pytest.fail):
        (tmp_path / NAME).write_text("")
        with (
            pytest.raises(UserError, match="another process trains there"),
            exclusive_writer(tmp_path, pytest.fail),
        ):
            pass
    assert len(sleeps) >= 2
    assert sum(sleeps) <= 1, "seconds: the command does not wait longer for a name"


def test_lock_of_a_dead_process_does_not_block(tmp_path):
    script = f"""
import os, signal, sys
from pathlib import Path
from llm_scratch.training.lock import exclusive_writer
with exclusive_writer(Path({str(tmp_path)!r}), print):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_SECONDS)
    assert done.returncode == -9
    dead = json.loads((tmp_path / NAME).read_text())["pid"]
    (tmp_path / f".loss-plot.pdf.{dead}.part").write_text("half")
    with exclusive_writer(tmp_path, pytest.fail):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
        assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_lock_is_released_on_an_error_in_the_block(tmp_path):
    with pytest.raises(KeyboardInterrupt), exclusive_writer(tmp_path, pytest.fail):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["removed", "moved", "recreated"])
def test_lock_check_fails_when_the_directory_is_gone(what, tmp_path):
    run = tmp_path / "run"
    with exclusive_writer(run, pytest.fail) as held:
        held.check()
        if what == "moved":
            run.rename(tmp_path / "elsewhere")
        else:
            (run / NAME).unlink()
        if what == "recreated":
            (run / NAME).write_text("of another process")
        with pytest.raises(UserError, match="removed or moved") as error:
            held.check()
        assert error.value.code == RESOURCES
    if what == "recreated":
        assert (run / NAME).read_text() == "of another process"


def test_lock_is_retried_when_its_file_was_removed(tmp_path, monkeypatch):
    """The first holder removes its file on release; a lock on the removed file excludes no one."""
    flock, taken = fcntl.flock, []

    def with_a_thief(number, how):
        if not taken:
            (tmp_path / NAME).unlink()
        taken.append(number)
        flock(number, how)

    monkeypatch.setattr(fcntl, "flock", with_a_thief)
    with exclusive_writer(tmp_path, pytest.fail) as held:
        held.check()
    assert len(taken) == 2


def test_run_continues_with_a_warning_when_locking_is_not_supported(tmp_path, monkeypatch):
    def refuse(number):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock, "try_lock", refuse)
    warnings = []
    with exclusive_writer(tmp_path, warnings.append):
        assert (tmp_path / NAME).is_file()
    assert "file locking is not supported here" in warnings[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["EACCES", "EROFS", "EIO", "EBUSY"])
def test_lock_file_remains_when_it_cannot_be_removed(name, tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(getattr(errno, name), name, str(path))

    with exclusive_writer(tmp_path, pytest.fail):
        monkeypatch.setattr("os.unlink", refuse)
    monkeypatch.undo()
    with exclusive_writer(tmp_path, pytest.fail):
        pass
    assert list(tmp_path.iterdir()) == []
