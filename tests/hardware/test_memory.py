"""Memory values agree with the process and with the limits of containers."""

import mmap

import pytest
import torch

from llm_scratch.hardware import memory
from llm_scratch.hardware.memory import free_memory, peak_memory, resident_memory

CPU = torch.device("cpu")
GIB = 2**30


def test_peak_memory_is_at_least_resident_memory():
    before, size = resident_memory(), 2**26
    with mmap.mmap(-1, size) as block:  # not by malloc, which may have free memory already
        for page in range(0, size, mmap.PAGESIZE):
            block[page] = 1
        assert resident_memory() > before + 0.9 * size
    assert peak_memory(CPU) >= resident_memory() * 0.99


def test_peak_memory_uses_getrusage_without_proc(monkeypatch):
    monkeypatch.setattr(memory, "_number", lambda *args: None)
    assert peak_memory(CPU) > 10 * 2**20
    assert free_memory() is None


def a_machine(root, groups, files, available=8 * GIB):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(
        f"MemTotal:  99999999 kB\nMemAvailable:  {available // 1024} kB\n"
    )
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


LIMITS = {
    "none": ("0::/\n", {}, 8),
    "v2": ("0::/\n", {"memory.max": f"{4 * GIB}\n", "memory.current": f"{1 * GIB}\n"}, 3),
    "v2, files are given back": (
        "0::/\n",
        {
            "memory.max": f"{4 * GIB}",
            "memory.current": f"{3 * GIB}",
            "memory.stat": f"anon 1\ninactive_file {GIB}\n",
        },
        2,
    ),
    "v2, the limit is a parent's": (
        "0::/user/me\n",
        {
            "user/me/memory.max": "max\n",
            "user/me/memory.current": "5",
            "user/memory.max": f"{3 * GIB}",
            "user/memory.current": f"{2 * GIB}",
        },
        1,
    ),
    "v2, used beyond the limit": ("0::/\n", {"memory.max": "5", "memory.current": "7"}, 0),
    "v1": (
        "5:cpu:/x\n4:memory:/docker/7\n",
        {"memory/memory.limit_in_bytes": f"{2 * GIB}", "memory/memory.usage_in_bytes": f"{GIB}"},
        1,
    ),
}


@pytest.mark.parametrize(("groups", "files", "left"), LIMITS.values(), ids=LIMITS)
def test_free_memory_respects_the_limit_of_a_container(tmp_path, groups, files, left):
    assert free_memory(root=a_machine(tmp_path, groups, files)) == left * GIB


def test_free_memory_is_bytes_or_none(tmp_path):
    free = free_memory()
    assert free is None or 2**20 < free < 2**50
    assert free_memory(root=tmp_path / "nowhere") is None
