"""The matrix library is chosen by timing and is exact in float32.

Neither names nor noise decide.
"""

import pytest
import torch

from llm_scratch.hardware import matmul_backend
from llm_scratch.hardware.matmul_backend import (
    MIN_SPEEDUP,
    ONEDNN,
    default_backend,
    fastest_matmul_backend,
    onednn_is_float32,
    select_matmul_backend,
    use_matmul_backend,
)

KNOB = torch.backends.mkldnn.matmul


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch):
    """Reset the choice, the trial and torch's setting."""
    before = KNOB.fp32_precision
    monkeypatch.setattr(matmul_backend, "_in_use", None)
    KNOB.fp32_precision = matmul_backend._DEFAULT_PRECISION
    fastest_matmul_backend.cache_clear()
    onednn_is_float32.cache_clear()
    yield
    KNOB.fp32_precision = before
    fastest_matmul_backend.cache_clear()
    onednn_is_float32.cache_clear()


@pytest.fixture
def onednn_works(monkeypatch):
    monkeypatch.setattr(matmul_backend, "onednn_is_float32", lambda: True)
    monkeypatch.setattr(matmul_backend, "_onednn_gives_the_same_bits", lambda: False)


@pytest.mark.parametrize(
    ("speedup", "name"),
    [(0.5, "default"), (1.0, "default"), (1.15, "default"), (MIN_SPEEDUP, ONEDNN), (2.2, ONEDNN)],
)
def test_backend_is_the_default_unless_onednn_is_clearly_faster(
    speedup, name, monkeypatch, onednn_works
):
    monkeypatch.setattr(matmul_backend, "_speedup_of_onednn", lambda: speedup)
    assert select_matmul_backend() == (default_backend() if name == "default" else ONEDNN)
    assert (KNOB.fp32_precision == "bf16") == (name == ONEDNN)


def test_backend_that_rounds_is_not_used(monkeypatch):
    monkeypatch.setattr(matmul_backend, "_is_float32", lambda a, b: False)
    monkeypatch.setattr(matmul_backend, "_speedup_of_onednn", lambda: pytest.fail("timed"))
    assert select_matmul_backend() == default_backend()
    assert use_matmul_backend(ONEDNN) == default_backend(), "also if a checkpoint names it"
    assert KNOB.fp32_precision == matmul_backend._DEFAULT_PRECISION


def test_matmul_backends_with_equal_bits_are_not_timed(monkeypatch):
    """Noise must not decide: torch ignores the setting where oneDNN has no float32 code."""
    monkeypatch.setattr(matmul_backend, "onednn_is_float32", lambda: True)
    monkeypatch.setattr(matmul_backend, "_switch", lambda backend: None)
    monkeypatch.setattr(matmul_backend, "_speedup_of_onednn", lambda: pytest.fail("timed"))
    assert fastest_matmul_backend() == default_backend()


def test_backend_in_use_is_kept_when_something_else_selects(monkeypatch, onednn_works):
    """A resumed run uses the library of its checkpoint; measuring the FLOP/s must not change it."""
    monkeypatch.setattr(matmul_backend, "_speedup_of_onednn", lambda: 2.0)
    assert use_matmul_backend("MKL") == default_backend()
    assert select_matmul_backend() == default_backend()
    assert KNOB.fp32_precision == matmul_backend._DEFAULT_PRECISION


def test_backend_of_another_build_is_replaced_by_the_default():
    assert use_matmul_backend("Accelerate") == default_backend()


def test_trial_runs_once_a_process(monkeypatch, onednn_works):
    calls = []
    monkeypatch.setattr(matmul_backend, "_speedup_of_onednn", lambda: calls.append(1) or 2.0)
    assert [fastest_matmul_backend() for _ in range(3)] == [ONEDNN] * 3
    assert len(calls) == 1


def test_trial_leaves_random_state_threads_and_setting_unchanged():
    before = torch.get_rng_state(), torch.get_num_threads(), KNOB.fp32_precision
    fastest_matmul_backend()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), KNOB.fp32_precision) == before[1:]


def test_speedup_is_the_mean_ratio_of_the_shortest_times(monkeypatch):
    monkeypatch.setattr(matmul_backend, "thread_seconds", fake_clock())
    assert matmul_backend._speedup_of_onednn() == pytest.approx(2.0)


def fake_clock():
    """Calls take 2 s by the default library and 1 s by oneDNN, some longer at random."""
    delays = iter(3.0 * (i % 5 == 0) for i in range(10**6))

    def seconds(work, n_calls):
        return (1.0 if KNOB.fp32_precision == "bf16" else 2.0) + next(delays)

    return seconds


@pytest.mark.parametrize("name", [ONEDNN, "default"])
def test_backend_multiplies_in_float32(name):
    use_matmul_backend(name)
    a = torch.randn(300, 300, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ a.double()
    assert (a @ a - exact).norm() / exact.norm() < 1e-6


def test_rounding_to_bfloat16_is_detected(monkeypatch):
    a = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    real = torch.Tensor.__matmul__

    def rounded(a, b):
        return real(a.bfloat16(), b.bfloat16()) if a.dtype == torch.float32 else real(a, b)

    assert matmul_backend._is_float32(a, a)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert not matmul_backend._is_float32(a, a)
