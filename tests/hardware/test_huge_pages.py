"""Huge pages keep content and address, with one system call per page."""

import copy
import platform
import re
import sys

import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.hardware import huge_pages
from llm_scratch.hardware.huge_pages import PAGE_BYTES, collapse_huge_pages
from llm_scratch.hardware.packed_matmul import can_pack
from llm_scratch.model import build
from llm_scratch.model.packed import PackedLinear, pack
from llm_scratch.model.quantized import QuantizedLinear, quantize

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
    x = torch.randn(3 * PAGE_BYTES)  # 12 pages, at whatever address
    before, address = x.clone(), x.data_ptr()
    assert collapse_huge_pages([(address + PAGE_BYTES, 8 * PAGE_BYTES)]) >= 8
    assert torch.equal(x, before)
    assert x.data_ptr() == address


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
