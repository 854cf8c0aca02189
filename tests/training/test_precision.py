"""Requested precision is used, "auto" follows the timing, and no random state changes."""

import warnings
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from llm_scratch.errors import USAGE, UserError
from llm_scratch.training import precision
from llm_scratch.training.precision import (
    bfloat16_speedup,
    can_multiply_bfloat16,
    choose_precision,
    precision_of_run,
)

CPU = torch.device("cpu")
WIDE = 768


@pytest.mark.parametrize(
    ("gain", "name"), [(2.0, "bfloat16"), (1.3, "bfloat16"), (1.2, "float32"), (0.5, "float32")]
)
def test_precision_auto_follows_the_timing(gain, name, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda *_: gain)
    chosen = choose_precision("auto", WIDE, CPU)
    assert chosen.name == name
    assert f"{gain:.1f} times" in chosen.reason


@pytest.mark.parametrize(
    ("gain", "reason"),
    [(0.1, "as requested, 0.1 times float32's speed here"), (1.1, "as requested")],
)
def test_requested_slow_bfloat16_is_reported(gain, reason, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda *_: gain)
    assert choose_precision("bfloat16", WIDE, CPU) == precision.Precision("bfloat16", reason)


def test_float32_is_not_timed(monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speedup", lambda *_: pytest.fail("tried"))
    assert choose_precision("float32", WIDE, CPU).reason == "as requested"
    assert choose_precision("auto", 48, CPU).name == "float32", "a small model is not timed either"


def test_bfloat16_rounds_products_but_not_weights():
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 64, bias=False), torch.randn(8, 64)
    exact = x.double() @ layer.weight.double().T
    with choose_precision("float32", WIDE, CPU).products(CPU):
        torch.testing.assert_close(layer(x).double(), exact, rtol=1e-4, atol=1e-5)
    with choose_precision("bfloat16", WIDE, CPU).products(CPU):
        rounded = layer(x)
        rounded.sum().backward()
    assert rounded.dtype == torch.bfloat16
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float32


def test_precision_timing_does_not_change_random_state():
    threads, seed = torch.get_num_threads(), torch.get_rng_state()
    assert bfloat16_speedup(64, CPU) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), seed)


WITHOUT_AUTOCAST = torch.device("meta")


def test_bfloat16_is_rejected_on_unsupported_devices():
    assert can_multiply_bfloat16(CPU)
    assert not can_multiply_bfloat16(WITHOUT_AUTOCAST)
    with pytest.raises(
        UserError,
        match="--system.precision bfloat16: meta does not multiply in bfloat16 here; use auto",
    ) as error:
        choose_precision("bfloat16", WIDE, WITHOUT_AUTOCAST)
    assert error.value.code == USAGE


def test_bfloat16_is_not_used_on_a_device_that_warns_and_stays_in_float32(monkeypatch):
    """Simulate Apple's MPS before macOS 14."""

    class Warns(nullcontext):
        def __init__(self, *_):
            warnings.warn("autocast is disabled", stacklevel=2)
            super().__init__()

    monkeypatch.setattr(torch, "autocast", Warns)
    assert not can_multiply_bfloat16(CPU)


def test_resumed_run_keeps_its_precision_if_supported():
    assert precision_of_run("bfloat16", CPU).name == "bfloat16"
    assert precision_of_run("float32", WITHOUT_AUTOCAST).name == "float32"
    elsewhere = precision_of_run("bfloat16", WITHOUT_AUTOCAST)
    assert (elsewhere.name, "began in bfloat16, in which meta" in elsewhere.reason) == (
        "float32",
        True,
    )
