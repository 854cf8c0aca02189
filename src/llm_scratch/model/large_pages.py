"""Weights in pages of 2 MiB instead of 4 KiB: a processor that reads all of them for each token asks less often where a page lies.

Programs see one long memory; the processor looks up where each page of it really is, and remembers some thousand of them. 124M weights in
float32 are 120,000 small pages or 240 large ones. Linux can exchange them in place (since 6.1); elsewhere nothing happens.
Proof: tests/model/test_large_pages.py. Gain: LOG.md, 2026-11-29.
Source: MADV_COLLAPSE in https://man7.org/linux/man-pages/man2/madvise.2.html.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

PAGE = 2**21  # bytes of a large page on x86 and most of ARM
COLLAPSE = 25  # MADV_COLLAPSE, from Linux's mman-common.h


def in_large_pages(places: Iterable[tuple[int, int]]) -> int:
    """Lay memory into large pages, with what lies beside it in the same ones; what is in it stays, and so does its address.

    Args:
        places: (address, bytes) of what is read often.
    Returns:
        How many large pages there are now; 0 where the system knows none. One that it has no room for is no error.
    """
    if not sys.platform.startswith("linux"):
        return 0
    pages = {page for address, size in places for page in range(address // PAGE, -(-(address + size) // PAGE))}
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return sum(madvise(page * PAGE, PAGE, COLLAPSE) == 0 for page in sorted(pages))
