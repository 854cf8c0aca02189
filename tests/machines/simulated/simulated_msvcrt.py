"""Simulate msvcrt.locking: a lock belongs to the open file and not to the process."""

from __future__ import annotations

import fcntl
import os
import struct

LK_UNLCK, LK_LOCK, LK_NBLCK = 0, 1, 2
_TYPES = {LK_UNLCK: fcntl.F_UNLCK, LK_NBLCK: fcntl.F_WRLCK}


def locking(number: int, mode: int, n_bytes: int) -> None:
    """Lock `n_bytes` from the current position on, or raise PermissionError if they are locked."""
    start = os.lseek(number, 0, os.SEEK_CUR)
    request = struct.pack(
        "hhqqi4x", _TYPES[mode], os.SEEK_SET, start, n_bytes, 0
    )  # C's struct flock
    try:
        fcntl.fcntl(number, fcntl.F_OFD_SETLK, request)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None
