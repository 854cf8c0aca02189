"""A lock on an open file has one holder and is released when the file is closed.

Windows is covered by tests/machines/test_windows.py.
"""

from __future__ import annotations

import os
import threading

import pytest

from llm_scratch.storage import file_lock
from llm_scratch.storage.file_lock import try_lock, wait_for_lock


@pytest.fixture
def two_files(tmp_path):
    """The same file, opened twice."""
    numbers = [os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    yield numbers
    for number in numbers:
        os.close(number)


def test_second_holder_is_refused_until_the_first_closes_its_file(two_files, tmp_path):
    first, second = os.open(tmp_path / "lock", os.O_RDWR), two_files[1]
    try_lock(first)
    with pytest.raises(BlockingIOError):
        try_lock(second)
    os.close(first)
    try_lock(second)


def test_waiting_ends_when_the_lock_is_released(two_files, tmp_path):
    first, second = os.open(tmp_path / "lock", os.O_RDWR), two_files[1]
    try_lock(first)
    waiting = threading.Thread(target=wait_for_lock, args=(second, 0.001))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    os.close(first)
    waiting.join(60)
    assert not waiting.is_alive()


def test_locking_is_not_supported_when_there_is_no_fcntl(two_files, monkeypatch):
    monkeypatch.setattr(file_lock, "fcntl", None)
    with pytest.raises(OSError, match="not supported"):
        try_lock(two_files[0])
