"""oneDNN's linear layer is used only for shapes for which a timing finds it faster."""

import pytest
import torch
from torch.nn import functional as F

from llm_scratch.hardware import linear_kernel, trials
from llm_scratch.hardware.linear_kernel import (
    FORWARD,
    INPUT_GRADIENT,
    faster_products,
    has_onednn_linear,
    onednn_linear,
)

SHAPES = ((24, 16), (16, 48))


@pytest.fixture(autouse=True)
def _fresh_process(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "_folder", lambda: tmp_path)
    monkeypatch.setattr(trials, "_answers", {})
    has_onednn_linear.cache_clear()
    yield
    has_onednn_linear.cache_clear()


def use_speedups(monkeypatch, forward, gradient):
    speedups = {FORWARD: forward, INPUT_GRADIENT: gradient}
    monkeypatch.setattr(linear_kernel, "has_onednn_linear", lambda: True)
    monkeypatch.setattr(
        linear_kernel, "_speedup", lambda product, shape, backend: speedups[product][shape]
    )


@pytest.mark.parametrize(
    ("forward", "gradient", "want"),
    [
        ((1.0, 1.04), (1.2, 1.2), ()),
        ((1.15, 1.13), (1.2, 1.2), (FORWARD, INPUT_GRADIENT)),
        ((1.15, 1.13), (1.2, 0.7), (FORWARD,)),
        ((1.30, 0.95), (1.0, 1.0), (FORWARD,)),
    ],
)
def test_products_are_chosen_by_their_speedups(forward, gradient, want, monkeypatch):
    use_speedups(monkeypatch, dict(zip(SHAPES, forward)), dict(zip(SHAPES, gradient)))
    assert faster_products(SHAPES, "MKL") == want


def test_linear_kernel_is_not_timed_without_large_matrices_or_the_operator(monkeypatch):
    monkeypatch.setattr(linear_kernel, "time_interleaved", lambda ways: pytest.fail("timed"))
    assert faster_products((), "MKL") == ()
    monkeypatch.setattr(linear_kernel, "has_onednn_linear", lambda: False)
    assert faster_products(SHAPES, "MKL") == ()


@pytest.mark.parametrize(
    "operator",
    [
        lambda x, w, b: (_ for _ in ()).throw(RuntimeError("not in this build")),
        lambda x, w, b: F.linear(x.bfloat16(), w.bfloat16(), b.bfloat16()).float(),
        lambda x, w, b: F.linear(x, w),
    ],
    ids=["raises", "rounds", "wrong"],
)
def test_operator_that_is_missing_or_inexact_is_not_used(operator, monkeypatch):
    monkeypatch.setattr(linear_kernel, "onednn_linear", operator)
    assert not has_onednn_linear()


def test_operator_equals_torchs_where_it_is_there():
    if not has_onednn_linear():
        pytest.skip("this build of torch or this processor has no oneDNN linear operator")
    x, weight, bias = torch.randn(2, 5, 24), torch.randn(16, 24), torch.randn(16)
    torch.testing.assert_close(onednn_linear(x, weight, bias), F.linear(x, weight, bias))
    transposed = torch.randn(24, 16).T
    torch.testing.assert_close(onednn_linear(x, transposed), F.linear(x, transposed))


def test_trial_is_a_real_measurement_and_changes_nothing():
    before = torch.get_rng_state(), torch.get_num_threads()
    assert set(faster_products(((64, 32),), "MKL")) <= {FORWARD, INPUT_GRADIENT}
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


def test_speedup_is_the_ratio_of_the_shortest_times(monkeypatch):
    """Interleaved calls: two for warm-up, six timed."""
    times = iter([5.0, 4.0, 4.0, 2.0] + [3.0, 9.0, 8.0, 1.5] * 3)
    monkeypatch.setattr(trials, "thread_seconds", lambda work: next(times))
    assert linear_kernel._speedup(FORWARD, (16, 8), "MKL") == 3.0 / 1.5


def test_timings_are_kept_for_the_next_start(monkeypatch):
    first = linear_kernel._speedup(FORWARD, (16, 8), "MKL")
    monkeypatch.setattr(trials, "_answers", {})  # as in another process
    monkeypatch.setattr(trials, "thread_seconds", lambda work: pytest.fail("timed again"))
    assert linear_kernel._speedup(FORWARD, (16, 8), "MKL") == first
