"""Freed memory is kept: a program that frees and allocates a large block again and again gets it from the system once."""

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
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Statistics
held = []  # bytes that the C library holds, of its heap and mapped by themselves: with the block, and after it was freed
for _ in range(20):
    block = libc.malloc({BLOCK_BYTES})
    with_block = libc.mallinfo2()
    libc.free(block)
    freed = libc.mallinfo2()
    held.append([with_block.arena + with_block.hblkhd, freed.arena + freed.hblkhd])
print(json.dumps(held))
"""


def held_bytes(how: str) -> list[list[int]]:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="needs mallopt and mallinfo2, which glibc has since 2.33",
)
def test_a_block_that_was_freed_is_kept_and_used_again():
    kept = held_bytes("keep")
    assert {size for round_ in kept for size in round_} == {kept[0][0]}, (
        "after the first block nothing is taken from the system or returned"
    )
    assert kept[0][0] >= BLOCK_BYTES
    assert all(with_block - freed >= BLOCK_BYTES for with_block, freed in held_bytes("give back")), "glibc's default returns it at once"
