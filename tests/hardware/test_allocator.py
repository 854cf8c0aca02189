"""Freed memory is kept: a program that frees and takes a large block again and again asks the system for its pages once."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from llm_scratch.hardware.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
for _ in range(20):
    block = libc.malloc(50_000_000)
    ctypes.memset(block, 1, 50_000_000)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_block_that_was_freed_is_not_asked_for_again():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "give back")
    }
    assert faults["keep"] < faults["give back"] / 3, faults
