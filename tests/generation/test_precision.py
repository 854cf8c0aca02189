"""The precision of the weights while writing: what is chosen and why, what is asked is done, scores stay close to float32's."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation import precision
from llm_scratch.generation.decode import generate
from llm_scratch.generation.precision import bits_of, choose_precision, gain_of, with_dtype
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.quantized import quantize
from llm_scratch.model.running import device_of

CFG = {"vocab_size": 61, "context_length": 16, "emb_dim": 64, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0, "qkv_bias": True}


def gpt(**changes):
    torch.manual_seed(1)
    return GPTModel(CFG | changes).eval()


@pytest.fixture
def wide():
    return gpt(emb_dim=precision.SMALL, n_layers=1)


def measured(monkeypatch, device="cpu", **gains):
    """Let the trial find these gains on such a device; returns the names that were tried."""
    tried = []
    monkeypatch.setattr(precision, "device_of", lambda model: torch.device(device))
    monkeypatch.setattr(precision, "gain_of", lambda names, *_: tried.extend(names) or {name: gains[name] for name in names})
    return tried


@pytest.mark.parametrize(
    ("device", "gains", "name", "why"),
    [
        ("cpu", {"bfloat16": 1.3}, "bfloat16", "bfloat16 is read 1.3 times as fast as float32 here"),
        ("cpu", {"bfloat16": 1.19}, "float32", "less than 1.2 does not pay"),
        ("cpu", {"bfloat16": 0.1}, "float32", "bfloat16 is read 0.1 times as fast as float32 here"),
        ("cuda", {"bfloat16": 1.9, "float16": 2.0}, "bfloat16", "1.9 times"),
        ("cuda", {"bfloat16": 0.4, "float16": 2.0}, "float16", "float16 is read 2.0 times"),
        ("cuda", {"bfloat16": 0.4, "float16": 1.1}, "float32", "less than 1.2"),
    ],
)
def test_what_pays_clearly_is_chosen(device, gains, name, why, wide, monkeypatch):
    tried = measured(monkeypatch, device, **gains)
    chosen = choose_precision(wide)
    assert (chosen.name, tried) == (name, list(gains))
    assert why in chosen.why


def test_where_nothing_can_be_gained_nothing_is_tried(wide, monkeypatch):
    tried = measured(monkeypatch, bfloat16=9.0)
    assert str(choose_precision(gpt())) == "float32 (a model 64 wide is too small to gain from fewer bits)"
    measured(monkeypatch, "mps")
    assert choose_precision(wide).why == "no other is tried on mps"
    assert tried == []


@pytest.mark.parametrize(("name", "far"), [("bfloat16", 0.02), ("float16", 0.003), ("float32", 0.0)])
def test_a_precision_that_is_asked_for_is_taken_and_its_scores_are_near(name, far):
    """Relative distance of the scores: bfloat16 has 8 significant bits, 1/256 a number, float16 has 11."""
    ids, exact = torch.arange(12).view(2, 6), gpt()
    model, chosen = with_dtype(gpt(tie_embeddings=True), name)
    exact.load_state_dict(gpt(tie_embeddings=True).state_dict())
    assert str(chosen) == f"{name} (as asked)"
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, name)}
    assert model.out_head.weight is model.tok_emb.weight
    with torch.no_grad():
        want, got = exact(ids), model(ids).float()
    distance = ((got - want).norm() / want.norm()).item()
    assert distance <= far
    assert (distance > 0) == (far > 0)
    assert generate(model, ids, 20).shape == (2, 26)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_model_keeps_its_bits_and_says_so(bits):
    model = quantize(gpt(), bits)
    assert (bits_of(model), bits_of(gpt())) == (bits, None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert str(with_dtype(model)[1]) == f"{bits} bits (as the matrices were quantized)"
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert with_dtype(model, "float32")[1].name == "float32"
    with pytest.raises(UserError, match=f"the weights are in {bits} bits already; leave out dtype=bfloat16"):
        with_dtype(model, "bfloat16")


def test_an_unknown_precision_is_named():
    with pytest.raises(UserError, match="unknown dtype 'int3'; expected auto, float32, bfloat16, float16"):
        choose_precision(gpt(), "int3")


def test_the_trial_times_both_and_leaves_the_threads_as_they_were(wide):
    before = torch.get_num_threads()
    gains = gain_of(("bfloat16", "float16"), 64, device_of(wide), 2**18)
    assert set(gains) == {"bfloat16", "float16"}
    assert all(0 < gain < 1e4 for gain in gains.values())
    assert torch.get_num_threads() == before


def test_the_faster_one_is_the_one_that_took_less_time(monkeypatch):
    """The shortest trial counts, and the first of each does not."""
    times = iter([0.1, 0.1, 8.0, 4.0, 6.0, 9.0, 7.0, 3.0, 9.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(precision, "_seconds", lambda weights, device: next(times))
    assert gain_of(("bfloat16",), 8, torch.device("cpu"), 1) == {"bfloat16": 2.0}
