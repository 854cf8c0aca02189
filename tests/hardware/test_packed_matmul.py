"""Packed products are correct for each supported dtype, and used only if they are faster."""

import pytest
import torch
from torch.nn import functional as F

from llm_scratch.hardware import packed_matmul as packing
from llm_scratch.hardware.packed_matmul import (
    can_pack,
    linear_seconds,
    pack_weight,
    packed_matmul,
    packing_pays,
)

DTYPES = list(packing.TOLERANCE)


@pytest.fixture(autouse=True)
def _fresh():
    """Clear the cached trials before each test."""
    packing._can_pack.cache_clear()
    yield
    packing._can_pack.cache_clear()


@pytest.fixture
def raises_for_bfloat16(monkeypatch):
    """Simulate a processor with AVX2 only: oneDNN raises when it packs bfloat16."""
    real = torch.ops.mkldnn._reorder_linear_weight

    def reorder(weight, *more):
        if weight.dtype == torch.bfloat16:
            raise RuntimeError(
                "mkldnn_reorder_linear_weight: bf16 path needs the cpu support avx512bw"
            )
        return real(weight, *more)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", reorder)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packed_product_equals_linear(dtype):
    if not can_pack(dtype):
        pytest.skip(f"this processor or this torch cannot pack {dtype}")
    weight, bias, x = (torch.randn(*shape).to(dtype) for shape in ((30, 64), (30,), (2, 5, 64)))
    packed = pack_weight(weight)
    assert torch.equal(packed.to_dense(), weight)
    off = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(
        packed_matmul(x, packed, bias), F.linear(x, weight, bias), rtol=off, atol=off
    )


def test_can_pack_is_false_for_a_dtype_that_raises(raises_for_bfloat16):
    assert not can_pack(torch.bfloat16)
    assert not packing_pays(torch.bfloat16, 64)


def test_can_pack_is_false_for_a_dtype_with_wrong_results(monkeypatch):
    monkeypatch.setattr(
        packing,
        "packed_matmul",
        lambda x, packed, bias=None: x.sum(-1, keepdim=True).expand(-1, 40),
    )
    assert not any(can_pack(dtype) for dtype in DTYPES)


def test_can_pack_is_false_without_onednn(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not any(can_pack(dtype) for dtype in DTYPES)
    assert not can_pack(torch.float64)


def test_packing_is_chosen_where_it_is_faster(monkeypatch):
    monkeypatch.setattr(packing, "_can_pack", lambda dtype: True)
    monkeypatch.setattr(
        packing,
        "linear_seconds",
        lambda width: {
            "float32": 2.0,
            "float32 packed": 1.0,
            "bfloat16": 1.0,
            "bfloat16 packed": 1.0,
        },
    )
    assert packing_pays(torch.float32, 768)
    assert not packing_pays(torch.bfloat16, 768)


def test_narrow_matrices_are_packed_without_a_trial(monkeypatch):
    """A trial at width 32 took 8 s, longer than a narrow model takes to write."""
    monkeypatch.setattr(packing, "_can_pack", lambda dtype: dtype == torch.float32)
    monkeypatch.setattr(packing, "linear_seconds", lambda width: pytest.fail("timed"))
    assert packing_pays(torch.float32, packing.MIN_TRIAL_WIDTH - 1)
    assert not packing_pays(torch.bfloat16, packing.MIN_TRIAL_WIDTH - 1)


def test_trials_of_narrow_matrices_alternate_between_few():
    assert [packing.n_trial_copies(width) for width in (128, 512, 4096)] == [16, 8, 1]


def test_linear_seconds_has_every_working_product(raises_for_bfloat16, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(packing, "MAX_TRIAL_COPIES", 1)
    seconds = linear_seconds(24)
    assert {"float32", "bfloat16", "float16"} <= set(seconds)
    assert "bfloat16 packed" not in seconds
    assert ("float32 packed" in seconds) == can_pack(torch.float32)
    assert all(value > 0 for value in seconds.values())
