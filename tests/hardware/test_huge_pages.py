"""Huge pages keep content and address, with one system call per page."""

import copy
import platform
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.hardware import huge_pages
from llm_scratch.hardware.huge_pages import PAGE_BYTES, collapse_huge_pages
from llm_scratch.hardware.packed_matmul import can_pack
from llm_scratch.model import build, kernel_choice
from llm_scratch.model.packed import PackedLinear, pack
from llm_scratch.model.quantized import QuantizedLinear, quantize
from llm_scratch.model.quantized_kernels import usable

CONFIG = GPTConfig(vocab_size=50, context_length=16, emb_dim=64, n_heads=4, n_layers=2)


def in_small_pages_only() -> bool:
    """Return whether this system cannot collapse huge pages: not Linux, or before 6.1."""
    return not sys.platform.startswith("linux") or tuple(
        map(int, re.findall(r"\d+", platform.release())[:2])
    ) < (6, 1)


@pytest.mark.skipif(
    in_small_pages_only(),
    reason="needs Linux 6.1, which can collapse memory into huge pages",
)
def test_huge_pages_keep_the_contents():
    """How many pages are collapsed depends on the free memory of the machine."""
    x = torch.randn(3 * PAGE_BYTES)  # 12 pages, at whatever address
    before, address = x.clone(), x.data_ptr()
    assert 0 <= collapse_huge_pages([(address + PAGE_BYTES, 8 * PAGE_BYTES)]) <= 9
    assert torch.equal(x, before)
    assert x.data_ptr() == address


def test_huge_pages_are_requested_once_each_and_counted(monkeypatch):
    requested = []

    def madvise(address, size, advice):
        requested.append((address // PAGE_BYTES, size, advice))
        return -1 if address == 6 * PAGE_BYTES else 0  # the system has no space for it

    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    monkeypatch.setattr(huge_pages.ctypes, "CDLL", lambda name: SimpleNamespace(madvise=madvise))
    ranges = [(5 * PAGE_BYTES - 8, 16), (5 * PAGE_BYTES, 2 * PAGE_BYTES)]
    assert collapse_huge_pages(ranges) == 2
    assert requested == [(page, PAGE_BYTES, huge_pages.MADV_COLLAPSE) for page in (4, 5, 6)]


def test_huge_pages_is_noop_for_a_c_library_without_madvise(monkeypatch):
    monkeypatch.setattr(huge_pages.sys, "platform", "linux")
    monkeypatch.setattr(huge_pages.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert collapse_huge_pages([(PAGE_BYTES, 1)]) == 0


def test_huge_pages_ignores_unmapped_ranges():
    assert collapse_huge_pages([]) == 0
    assert collapse_huge_pages([(0, 3 * PAGE_BYTES)]) == 0, "unmapped memory"


def test_huge_pages_is_noop_off_linux(monkeypatch):
    monkeypatch.setattr(huge_pages.sys, "platform", "win32")
    monkeypatch.setattr(huge_pages.ctypes, "CDLL", pytest.fail)
    x = torch.ones(PAGE_BYTES)
    assert collapse_huge_pages([(x.data_ptr(), x.nbytes)]) == 0


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_packed_model_reports_memory_ranges_of_all_matrices(bits, monkeypatch):
    advised = []
    monkeypatch.setattr("llm_scratch.model.packed.collapse_huge_pages", advised.extend)
    with_ranges = tuple(name for name in usable(bits) if not name.startswith("fbgemm"))
    monkeypatch.setattr(kernel_choice, "usable", lambda bits: with_ranges)
    model = build(CONFIG)
    model = model if bits == 32 else quantize(model, bits)
    pack(copy.deepcopy(model))
    assert advised == []
    pack(model, huge_pages=True)
    if bits == 32 and not can_pack(torch.float32):
        pytest.skip("needs oneDNN on an x86 processor")
    parts = [part for part in model.modules() if isinstance(part, (PackedLinear, QuantizedLinear))]
    assert len(parts) == 2 * 4 + 1
    weights = 2 * 12 * 64 * 64 + 50 * 64
    assert weights * bits / 8 <= sum(size for _, size in advised) <= 2 * weights * bits / 8
    assert len({address for address, _ in advised}) == len(advised)
