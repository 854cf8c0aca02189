"""The choice of precision: what is asked is taken, what is tried follows the clock, and nothing random is drawn on the way."""

import pytest
import torch
from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.training import precision
from llm_scratch.training.precision import choose_precision, gain_of_bfloat16

CPU = torch.device("cpu")
WIDE = ModelConfig(emb_dim=768)


@pytest.mark.parametrize(("gain", "name"), [(2.0, "bfloat16"), (1.3, "bfloat16"), (1.2, "float32"), (0.5, "float32")])
def test_the_trial_decides(gain, name, monkeypatch):
    monkeypatch.setattr(precision, "gain_of_bfloat16", lambda *_: gain)
    chosen = choose_precision("auto", WIDE, CPU)
    assert chosen.name == name
    assert f"{gain:.1f} times" in chosen.why


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_what_is_asked_is_not_tried(wanted, monkeypatch):
    monkeypatch.setattr(precision, "gain_of_bfloat16", lambda *_: pytest.fail("tried"))
    assert choose_precision(wanted, WIDE, CPU).name == wanted
    assert choose_precision("auto", ModelConfig(emb_dim=48, n_heads=4), CPU).name == "float32", "a small model is not tried either"


def test_products_are_rounded_and_weights_are_not():
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


def test_the_trial_leaves_no_trace():
    threads, seed = torch.get_num_threads(), torch.get_rng_state()
    assert gain_of_bfloat16(64, CPU) > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), seed)
