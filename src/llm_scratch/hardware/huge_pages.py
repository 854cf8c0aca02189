"""Huge pages: weights in pages of 2 MiB instead of 4 KiB need fewer address lookups.

A program sees one long memory; the processor translates the address of each page, and its cache of
translations (TLB) holds some thousand. 124M float32 weights are 120,000 small pages or 240 huge
ones. Linux swaps them in place (since 6.1); elsewhere a no-op.
Tests: tests/hardware/test_huge_pages.py. Gain: LOG.md, 2026-11-29.
Source: MADV_COLLAPSE in https://man7.org/linux/man-pages/man2/madvise.2.html.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

PAGE_BYTES = 2**21  # a huge page on x86-64 and most of ARM64
MADV_COLLAPSE = 25  # from Linux's mman-common.h


def collapse_huge_pages(ranges: Iterable[tuple[int, int]]) -> int:
    """Move memory into huge pages; contents and addresses stay.

    Neighbors within the same 2 MiB move too.

    Args:
        ranges: (address, bytes) of memory that is read often.
    Returns:
        Huge pages in use afterwards; 0 where the system has none. A page that the system has no
        space for is skipped.
    """
    if not sys.platform.startswith("linux"):
        return 0
    pages = {
        page
        for address, size in ranges
        for page in range(address // PAGE_BYTES, -(-(address + size) // PAGE_BYTES))
    }
    try:
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    return sum(madvise(page * PAGE_BYTES, PAGE_BYTES, MADV_COLLAPSE) == 0 for page in sorted(pages))
