"""Freed memory is kept: a large block is not requested from the system again."""

import ctypes
import json
import subprocess
import sys

import pytest

BLOCK_BYTES = 50_000_000
CODE = f"""
import ctypes, json, sys
from llm_scratch.hardware.allocator import keep_freed_memory

class Statistics(ctypes.Structure):  # struct mallinfo2 of malloc.h
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.mallinfo2.restype = Statistics
held = []  # bytes that the C library has from the system: with the block, and after it was freed
for _ in range(20):
    block = libc.malloc({BLOCK_BYTES})
    with_block = libc.mallinfo2()
    libc.free(block)
    freed = libc.mallinfo2()
    held.append([with_block.arena + with_block.hblkhd, freed.arena + freed.hblkhd])
print(json.dumps(held))
"""


def held_bytes(how: str) -> list[list[int]]:
    command = [sys.executable, "-c", CODE, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs mallopt and mallinfo2, which glibc has since 2.33",
)
def test_keep_freed_memory_reuses_a_freed_block():
    kept = held_bytes("keep")
    first = kept[0][0]
    assert first >= BLOCK_BYTES
    assert kept == [[first, first]] * len(kept), "nothing more is taken, and nothing is returned"
    by_default = [with_block - freed for with_block, freed in held_bytes("give back")]
    assert min(by_default) >= BLOCK_BYTES, "glibc returns it at once"
