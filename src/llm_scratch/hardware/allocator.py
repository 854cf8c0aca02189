"""Keep freed memory in the process, which saves page faults in every training step.

Every step frees and allocates the same large tensors, and so does every prompt. By default glibc
returns large blocks to the system at once, and the system hands them out again page by page,
cleared. `keep_freed_memory` makes glibc keep them. Any PyTorch program gains the same; the cost is
the memory of the largest step. Outside Linux with glibc it is a no-op.
Tests: tests/hardware/test_allocator.py.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for this process; True if it does."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    large = 2**31 - 1  # mallopt takes an int
    return bool(
        mallopt(M_MMAP_MAX, 0)
        and mallopt(M_TRIM_THRESHOLD, large)
        and mallopt(M_TOP_PAD, 64 * 2**20)
    )
