"""Lock an open file against other processes: flock on POSIX systems, msvcrt.locking on Windows.

The system releases the lock when the file is closed or its process ends for any reason.
Tests: tests/storage/test_file_lock.py, tests/machines (Windows).
Source: https://docs.python.org/3/library/fcntl.html#fcntl.flock,
https://docs.python.org/3/library/msvcrt.html#msvcrt.locking
"""

from __future__ import annotations

import errno
import os
import sys
import time

if sys.platform == "win32":
    import msvcrt

    LOCKED_BYTE = 2**30
    """Offset of the locked byte, far behind the content: Windows cannot read a locked byte."""

    def try_lock(number: int) -> None:
        """Lock the file with this descriptor.

        Raises:
            BlockingIOError: another process holds the lock.
            OSError: this system or file system does not support locks.
        """
        os.lseek(number, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except PermissionError as e:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from e
        finally:
            os.lseek(number, 0, os.SEEK_SET)

else:
    try:
        import fcntl
    except ImportError:  # WebAssembly, for one
        fcntl = None  # type: ignore[assignment]

    def try_lock(number: int) -> None:
        """Lock the file with this descriptor.

        Raises:
            BlockingIOError: another process holds the lock.
            OSError: this system or file system does not support locks.
        """
        if fcntl is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def wait_for_lock(number: int, seconds: float = 0.1) -> None:
    """Wait until no other process holds the lock, then lock the file with this descriptor.

    Args:
        number: the file descriptor.
        seconds: time between two attempts.
    Raises:
        OSError: this system or file system does not support locks.
    """
    while True:
        try:
            return try_lock(number)
        except BlockingIOError:
            time.sleep(seconds)
