"""The append-only log loses no line to a full disk, writes each line once, and warns once."""

from __future__ import annotations

import errno
import os

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.storage import files
from llm_scratch.training import append_log as page_module
from llm_scratch.training.append_log import DurableLog


class Moody(files.FileSystem):
    """A disk that takes so many bytes more of what is appended, and whose flushes fail when told to."""

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
    disk = Moody()
    monkeypatch.setattr(files, "filesystem", disk)
    return disk


def test_log_appends_to_an_existing_file(tmp_path, disk):
    (tmp_path / "page").write_text("old\n")
    page = DurableLog(tmp_path / "page", pytest.fail)
    page.append("a\n")
    page.append("b\n")
    assert (tmp_path / "page").read_text() == "old\na\nb\n", "at once, so that one can watch"
    page.flush()
    page.append("ž\n")
    page.close()
    assert (tmp_path / "page").read_text() == "old\na\nb\nž\n"


@pytest.mark.parametrize("room", range(0, 9, 2))
def test_log_buffers_lines_and_warns_once_when_the_disk_is_full(room, tmp_path, disk):
    said = []
    page = DurableLog(tmp_path / "page", said.append)
    disk.room = room
    for number in range(1000, 1003):
        page.append(f"{number}\n")
    assert (tmp_path / "page").read_text() == "1000\n1001\n1002\n"[:room], "what fits is there"
    assert said == [
        f"cannot write {tmp_path / 'page'}: No space left on device; its lines are kept in memory and written once that is possible"
    ]
    with pytest.raises(UserError, match="No space left") as error:
        page.flush()
    assert error.value.code == RESOURCES
    disk.room = 10**9
    page.append("1003\n")
    assert (tmp_path / "page").read_text() == "1000\n1001\n1002\n1003\n"
    disk.room = 0
    page.append("1004\n")
    assert len(said) == 2, "another time of trouble is told again"
    page.close()
    assert said[2] == f"{tmp_path / 'page'}: the last 5 bytes could not be written: No space left on device"


def test_log_rewrites_unsynced_lines_after_a_failed_flush(tmp_path, disk):
    """After one, the system may call pages clean that never reached the disk; here all that was not certain is gone."""
    page = DurableLog(tmp_path / "page", pytest.fail)
    page.append("certain\n")
    page.flush()
    page.append("lost 1\nlost 2\n")
    disk.flushes = False
    with pytest.raises(UserError, match="Input/output error"):
        page.flush()
    (tmp_path / "page").write_bytes(b"certain\n" + bytes(7))
    disk.flushes = True
    page.flush()
    page.close()
    assert (tmp_path / "page").read_text() == "certain\nlost 1\nlost 2\n"


def test_log_buffer_is_bounded(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_BUFFER_BYTES", 20)
    page = DurableLog(tmp_path / "page", lambda message: None)
    disk.room = 0
    page.append("0123456789")
    with pytest.raises(UserError, match="No space left"):
        page.append("0123456789+")
    disk.room = 100
    page.append("end")
    page.close()
    assert (tmp_path / "page").read_text() == "01234567890123456789+end"


def test_log_buffers_lines_when_its_folder_is_missing(tmp_path, disk):
    said = []
    page = DurableLog(tmp_path / "gone" / "page", said.append)
    page.append("a\n")
    (tmp_path / "gone").mkdir()
    page.append("b\n")
    page.close()
    assert (tmp_path / "gone" / "page").read_text() == "a\nb\n"
    assert len(said) == 1


def test_log_append_does_not_wait_for_a_flush_in_another_thread(tmp_path, monkeypatch):
    """It is on the page at once, and certain with the next flush; a disk that refuses meanwhile has all of it written again."""
    page = DurableLog(tmp_path / "page", pytest.fail)

    class Slow(files.FileSystem):
        refuses = False

        def flush(self, path):
            page.append("during\n")
            assert (tmp_path / "page").read_text().endswith("during\n")
            if self.refuses:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        disk = Slow()
        patch.setattr(files, "filesystem", disk)
        page.append("before\n")
        page.flush()
        assert page._synced == len("before\n")
        disk.refuses = True
        with pytest.raises(UserError):
            page.flush()
    (tmp_path / "page").write_text("before\nlost\n")
    page.flush()
    page.close()
    assert (tmp_path / "page").read_text() == "before\nduring\nduring\n"
