"""The dtype of the weights in inference: a choice with its reason, requests, close logits."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation import dtype
from llm_scratch.generation.decode import generate
from llm_scratch.generation.dtype import bits_of, choose_dtype, speedups, with_dtype
from llm_scratch.hardware import packed_matmul
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.kernel_choice import choose_kernel
from llm_scratch.model.packed import pack
from llm_scratch.model.quantized import quantize

CFG = {
    "vocab_size": 61,
    "context_length": 16,
    "emb_dim": 64,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.0,
    "qkv_bias": True,
}


def gpt(**changes):
    torch.manual_seed(1)
    return GPTModel(CFG | changes).eval()


@pytest.fixture
def wide():
    return gpt(emb_dim=dtype.MIN_WIDTH, n_layers=1)


def measured(monkeypatch, device="cpu", **gains):
    """Stub the trial with these speedups on a device; returns the tried names."""
    tried = []
    monkeypatch.setattr(dtype, "device_of", lambda model: torch.device(device))

    def measured(names, width, device):
        tried.append(str(device))
        return {name: gains.get(name, 0.1) for name in names}

    monkeypatch.setattr(dtype, "speedups", measured)
    monkeypatch.setattr(dtype, "can_multiply", lambda dtype, device: True)
    return tried


@pytest.mark.parametrize(
    ("device", "gains", "name", "reason"),
    [
        ("cpu", {"bfloat16": 1.3}, "bfloat16", "bfloat16 has 1.3 times float32's speed here"),
        ("cpu", {"bfloat16": 1.19}, "float32", "float32 is kept below 1.2"),
        ("cpu", {"bfloat16": 0.1}, "float32", "bfloat16 has 0.1 times float32's speed here"),
        ("cuda", {"bfloat16": 1.9, "float16": 2.0}, "bfloat16", "1.9 times"),
        ("cuda", {"bfloat16": 0.4, "float16": 2.0}, "float16", "float16 has 2.0 times"),
        ("cuda", {"bfloat16": 0.4, "float16": 1.1}, "float32", "kept below 1.2"),
    ],
)
def test_choose_dtype_takes_a_clearly_faster_type(device, gains, name, reason, wide, monkeypatch):
    tried = measured(monkeypatch, device, **gains)
    chosen = choose_dtype(wide)
    assert (chosen.name, tried) == (name, [device])
    assert reason in chosen.reason


def test_choose_dtype_tries_nothing_without_a_possible_gain(wide, monkeypatch):
    tried = measured(monkeypatch, bfloat16=9.0)
    assert (
        str(choose_dtype(gpt())) == "float32 (a model 64 wide is too small to gain from fewer bits)"
    )
    measured(monkeypatch, "mps")
    assert choose_dtype(wide).reason == "no other is tried on mps"
    assert tried == []


@pytest.mark.parametrize("width", [64, dtype.MIN_WIDTH])
def test_requested_slow_dtype_is_reported(width, monkeypatch):
    measured(monkeypatch, bfloat16=0.1, float16=2.0)
    model = gpt(emb_dim=width, n_layers=1)
    assert (
        str(choose_dtype(model, "bfloat16"))
        == "bfloat16 (as requested, 0.1 times float32's speed here)"
    )
    assert str(choose_dtype(model, "float16")) == "float16 (as requested)"


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_dtype_that_the_device_does_not_multiply_is_refused(device, wide, monkeypatch):
    tried = measured(monkeypatch, device)
    monkeypatch.setattr(dtype, "can_multiply", lambda dtype, device: dtype != torch.bfloat16)
    message = f"dtype bfloat16: {device} does not multiply in it here; use auto or float32"
    with pytest.raises(UserError, match=message):
        choose_dtype(wide, "bfloat16")
    assert tried == []


def test_auto_takes_only_types_that_the_device_multiplies(wide, monkeypatch):
    measured(monkeypatch, bfloat16=9.0, float16=2.0)
    monkeypatch.setattr(dtype, "can_multiply", lambda dtype, device: dtype != torch.bfloat16)
    assert str(choose_dtype(wide)) == "float16 (float16 has 2.0 times float32's speed here)"
    monkeypatch.setattr(dtype, "can_multiply", lambda dtype, device: False)
    assert str(choose_dtype(wide)) == "float32 (cpu multiplies in no other type)"


def test_bfloat16_is_generated_in_without_packing_when_packing_is_unsupported(wide, monkeypatch):
    real = torch.ops.mkldnn._reorder_linear_weight

    def reorder(weight, *more):
        if weight.dtype == torch.bfloat16:
            raise RuntimeError("bf16 path needs the cpu support avx512bw")
        return real(weight, *more)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", reorder)
    packed_matmul._can_pack.cache_clear()
    try:
        model, _ = with_dtype(wide, "bfloat16")
        assert isinstance(pack(model).out_head, torch.nn.Linear)
        assert generate(model, torch.arange(6)[None], 5).shape == (1, 11)
    finally:
        packed_matmul._can_pack.cache_clear()


@pytest.mark.parametrize(
    ("name", "far"), [("bfloat16", 0.02), ("float16", 0.003), ("float32", 0.0)]
)
def test_requested_dtype_is_used_and_its_logits_are_close(name, far, monkeypatch):
    """Compare logits by relative distance: bfloat16 has 8 significant bits, float16 has 11."""
    measured(monkeypatch, **{name: 1.0})
    ids, exact = torch.arange(12).view(2, 6), gpt()
    model, chosen = with_dtype(gpt(tie_embeddings=True), name)
    exact.load_state_dict(gpt(tie_embeddings=True).state_dict())
    assert str(chosen) == f"{name} (as requested)"
    assert {weight.dtype for weight in model.parameters()} == {getattr(torch, name)}
    assert model.out_head.weight is model.tok_emb.weight
    with torch.no_grad():
        want, got = exact(ids), model(ids).float()
    distance = ((got - want).norm() / want.norm()).item()
    assert distance <= far
    assert (distance > 0) == (far > 0)
    assert generate(model, ids, 20).shape == (2, 26)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_model_keeps_and_reports_its_bits(bits):
    model = quantize(gpt(), bits)
    assert (bits_of(model), bits_of(gpt())) == (bits, None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert str(with_dtype(model)[1]) == f"{bits} bits ({choose_kernel(bits, 64)})"
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert with_dtype(model, "float32")[1].name == "float32"
    with pytest.raises(
        UserError, match=f"the weights are in {bits} bits already; leave out dtype=bfloat16"
    ):
        with_dtype(model, "bfloat16")


def test_unknown_dtype_is_named():
    with pytest.raises(
        UserError, match="unknown dtype 'int3'; expected auto, float32, bfloat16, float16"
    ):
        choose_dtype(gpt(), "int3")


def test_dtype_speed_is_that_of_its_fastest_product(monkeypatch):
    seconds = {
        "float32": 8.0,
        "float32 packed": 4.0,
        "bfloat16": 2.0,
        "float16": 8.0,
        "float16 packed": 16.0,
    }
    monkeypatch.setattr(dtype, "linear_seconds", lambda width: seconds)
    assert speedups(("bfloat16", "float16"), 512, torch.device("cpu")) == {
        "bfloat16": 2.0,
        "float16": 0.5,
    }
