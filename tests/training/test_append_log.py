"""The append-only log loses no line to a full disk, writes each line once, and warns once."""

from __future__ import annotations

import errno
import os

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files
from llm_scratch.training import append_log
from llm_scratch.training.append_log import DurableLog


class FlakyFileSystem(files.FileSystem):
    """A file system with limited space for appends, and optional flush failures."""

    def __init__(self):
        self.room, self.flushes = 10**9, True

    def append(self, file, place, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().append(file, place, data[: self.room])
        self.room -= taken
        return taken

    def flush(self, path):
        if not self.flushes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk(monkeypatch):
    disk = FlakyFileSystem()
    monkeypatch.setattr(files, "filesystem", disk)
    return disk


def test_log_appends_to_an_existing_file(tmp_path, disk):
    (tmp_path / "page").write_text("old\n")
    log = DurableLog(tmp_path / "page", pytest.fail)
    log.append("a\n")
    log.append("b\n")
    assert (tmp_path / "page").read_text() == "old\na\nb\n", "lines are visible at once"
    log.flush()
    log.append("ž\n")
    log.close()
    assert (tmp_path / "page").read_text() == "old\na\nb\nž\n"


@pytest.mark.parametrize("room", range(0, 9, 2))
def test_log_buffers_lines_and_warns_once_when_the_disk_is_full(room, tmp_path, disk):
    warnings = []
    log = DurableLog(tmp_path / "page", warnings.append)
    disk.room = room
    for number in range(1000, 1003):
        log.append(f"{number}\n")
    assert (tmp_path / "page").read_text() == "1000\n1001\n1002\n"[:room], "what fits is written"
    assert warnings == [
        f"cannot write {tmp_path / 'page'}: No space left on device;"
        " its lines are kept in memory and written once that is possible"
    ]
    with pytest.raises(UserError, match="No space left") as error:
        log.flush()
    assert error.value.code == RESOURCES
    disk.room = 10**9
    log.append("1003\n")
    assert (tmp_path / "page").read_text() == "1000\n1001\n1002\n1003\n"
    disk.room = 0
    log.append("1004\n")
    assert len(warnings) == 2, "a later failure is reported again"
    log.close()
    assert (
        warnings[2]
        == f"{tmp_path / 'page'}: the last 5 bytes could not be written: No space left on device"
    )


def test_log_rewrites_unsynced_lines_after_a_failed_flush(tmp_path, disk):
    """After a failed flush the system may mark pages clean that never reached the disk.

    Here everything that was not flushed is gone.
    """
    log = DurableLog(tmp_path / "page", pytest.fail)
    log.append("certain\n")
    log.flush()
    log.append("lost 1\nlost 2\n")
    disk.flushes = False
    with pytest.raises(UserError, match="Input/output error"):
        log.flush()
    (tmp_path / "page").write_bytes(b"certain\n" + bytes(7))
    disk.flushes = True
    log.flush()
    log.close()
    assert (tmp_path / "page").read_text() == "certain\nlost 1\nlost 2\n"


def test_log_buffer_is_bounded(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(append_log, "MAX_BUFFER_BYTES", 20)
    log = DurableLog(tmp_path / "page", lambda message: None)
    disk.room = 0
    log.append("0123456789")
    with pytest.raises(UserError, match="No space left"):
        log.append("0123456789+")
    disk.room = 100
    log.append("end")
    log.close()
    assert (tmp_path / "page").read_text() == "01234567890123456789+end"


def test_log_buffers_lines_when_its_folder_is_missing(tmp_path, disk):
    warnings = []
    log = DurableLog(tmp_path / "gone" / "page", warnings.append)
    log.append("a\n")
    (tmp_path / "gone").mkdir()
    log.append("b\n")
    log.close()
    assert (tmp_path / "gone" / "page").read_text() == "a\nb\n"
    assert len(warnings) == 1


def test_log_append_does_not_wait_for_a_flush_in_another_thread(tmp_path, monkeypatch):
    """The line is in the file at once and is flushed next time.

    If that fails, all of it is written again.
    """
    log = DurableLog(tmp_path / "page", pytest.fail)

    class Slow(files.FileSystem):
        refuses = False

        def flush(self, path):
            log.append("during\n")
            assert (tmp_path / "page").read_text().endswith("during\n")
            if self.refuses:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        disk = Slow()
        patch.setattr(files, "filesystem", disk)
        log.append("before\n")
        log.flush()
        assert log._synced == len("before\n")
        disk.refuses = True
        with pytest.raises(UserError):
            log.flush()
    (tmp_path / "page").write_text("before\nlost\n")
    log.flush()
    log.close()
    assert (tmp_path / "page").read_text() == "before\nduring\nduring\n"
