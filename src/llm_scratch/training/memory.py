"""Keep freed memory instead of giving it back: on a CPU much of a training step can go into asking for the same pages again.

Every step frees and takes the same big tensors, and so does the reading of every prompt. By default the C library returns large blocks to
the system at once and the system hands them out again page by page, cleared. `keep_freed_memory` tells glibc to hold on to them. It is
worth the same to any PyTorch program, and costs what the largest step needs. Elsewhere than on Linux with glibc it does nothing.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # from glibc's malloc.h


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for this process; True when it will."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    large = 2**31 - 1  # mallopt takes an int
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, large) and mallopt(M_TOP_PAD, 64 * 2**20))
