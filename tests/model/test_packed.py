"""Packed models compute the same values in another memory layout.

Weights unpack bit for bit, and a row never depends on others.
"""

import pytest
import torch
from torch import nn

from llm_scratch.generation.decode import generate
from llm_scratch.hardware.packed_matmul import can_pack
from llm_scratch.model import build
from llm_scratch.model.fusable import Fusable
from llm_scratch.model.introspection import vocab_size
from llm_scratch.model.packed import PackedLinear, fuse_linears, pack
from llm_scratch.model.quantized import QuantizedLinear, quantize

CFG = {
    "vocab_size": 301,
    "context_length": 48,
    "emb_dim": 64,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": True,
}
needs_packing = pytest.mark.skipif(
    not can_pack(torch.float32),
    reason="this processor or this torch has no layout for packed matrices",
)


def a_model(**more):
    torch.manual_seed(0)
    cfg = {**CFG, **more}
    if "architecture" in more:
        del cfg["qkv_bias"]
    return build(cfg).eval()


@needs_packing
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (301, 64), (65, 3)])
def test_packed_weight_survives_a_round_trip_and_products_agree(dtype, bias, shape):
    if not can_pack(dtype):
        pytest.skip(f"this processor or this torch cannot pack {dtype}")
    torch.manual_seed(1)
    plain = nn.Linear(*shape[::-1], bias=bias).to(dtype).requires_grad_(False)
    packed = PackedLinear(plain.weight, plain.bias)
    assert torch.equal(packed.weight, plain.weight)
    assert (packed.out_features, packed.in_features) == shape
    for rows in ((1,), (1, 1), (2, 5), (600,), (0,)):
        x = torch.randn(*rows, shape[1], dtype=dtype)
        assert packed(x).shape == (*rows, shape[0])
        torch.testing.assert_close(
            packed(x),
            plain(x),
            rtol=1e-2 if dtype == torch.bfloat16 else 1e-5,
            atol=2e-2 if dtype == torch.bfloat16 else 1e-5,
        )


@needs_packing
def test_packed_row_does_not_depend_on_the_other_rows():
    torch.manual_seed(2)
    packed, x = PackedLinear(torch.randn(301, 64), torch.randn(301)), torch.randn(32, 64)
    assert torch.equal(packed(x), torch.cat([packed(row[None]) for row in x]))


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_fused_linears_concatenate_their_outputs(bits, bias):
    torch.manual_seed(3)
    parts = nn.ModuleList(nn.Linear(64, n, bias=bias) for n in (8, 64, 3)).requires_grad_(False)
    if bits < 32:
        quantize(parts, bits)
    x = torch.randn(2, 3, 64)
    torch.testing.assert_close(
        fuse_linears(list(parts))(x),
        torch.cat([part(x) for part in parts], dim=-1),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tie_embeddings": True},
        {"qkv_bias": False},
        {"architecture": "nanochat"},
    ],
    ids=str,
)
@pytest.mark.parametrize("bits", [32, 8, 4])
def test_packed_model_gives_the_same_logits_and_text(more, bits):
    plain, packed = (a_model(**more) for _ in range(2))
    if bits < 32:
        quantize(plain, bits), quantize(packed, bits)
    assert pack(packed) is packed
    prompt = torch.randint(0, 301, (3, 7))
    with torch.no_grad():
        torch.testing.assert_close(packed(prompt), plain(prompt), rtol=1e-4, atol=1e-4)
    assert vocab_size(packed) == 301
    written = [
        generate(model, prompt, 20, context_size=48, temperature=0) for model in (plain, packed)
    ]
    assert torch.equal(*written)


@pytest.mark.parametrize(
    ("bits", "packable", "kind"),
    [
        pytest.param(32, True, PackedLinear, marks=needs_packing),
        (32, False, nn.Linear),
        (8, True, QuantizedLinear),
    ],
)
def test_pack_fuses_queries_keys_and_values_and_drops_the_parts(bits, packable, kind, monkeypatch):
    monkeypatch.setattr("llm_scratch.hardware.packed_matmul.can_pack", lambda dtype: packable)
    model = a_model()
    if bits < 32:
        quantize(model, bits)
    att = pack(model).trf_blocks[0].att
    assert att.W_query is att.W_key is att.W_value is None
    assert type(att.fused) is kind
    assert not any(weight.requires_grad for weight in model.parameters())


FAMILY = {
    "vocab_size": 61,
    "context_length": 32,
    "emb_dim": 96,
    "n_heads": 3,
    "n_layers": 4,
    "head_dim": 32,
}


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("architecture", ["llama", "gpt_oss", "qwen_next", "deepseek"])
def test_pack_fuses_all_layers_that_read_the_same_input(architecture, bits):
    """Gate and up projections, output gates and decays too; logits and text stay the same."""
    torch.manual_seed(0)
    plain, packed = (build(FAMILY | {"architecture": architecture}).eval() for _ in range(2))
    packed.load_state_dict(plain.state_dict())
    if bits < 32:
        quantize(plain, bits), quantize(packed, bits)
    parts = [part for part in pack(packed).modules() if isinstance(part, Fusable)]
    assert parts
    for part in parts:
        assert part.fused is not None
        assert {getattr(part, name) for name in part.fusable} == {None}
    prompt = torch.randint(0, 61, (2, 5))
    with torch.no_grad():
        torch.testing.assert_close(packed(prompt), plain(prompt), rtol=1e-4, atol=1e-4)
    texts = [
        generate(model, prompt, 6, context_size=32, temperature=0) for model in (plain, packed)
    ]
    assert torch.equal(*texts)


def test_layer_with_an_adapter_is_not_fused():
    model = a_model()
    adapted = nn.Sequential(model.trf_blocks[0].att.W_key, nn.Identity())
    model.trf_blocks[0].att.W_key = adapted
    pack(model)
    assert model.trf_blocks[0].att.fused is None
    assert model.trf_blocks[1].att.fused is not None


def test_pack_is_noop_where_unsupported(monkeypatch):
    model = a_model().to("meta")
    assert pack(model) is model
    assert isinstance(model.out_head, nn.Linear)
    monkeypatch.setattr("llm_scratch.hardware.packed_matmul.can_pack", lambda dtype: False)
    prompt, model = torch.randint(0, 301, (2, 5)), a_model()
    assert isinstance(pack(model).out_head, nn.Linear)
    torch.testing.assert_close(model(prompt), a_model()(prompt), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pays", [True, False])
def test_wide_matrix_is_packed_where_the_trial_finds_it_faster(pays, monkeypatch):
    if pays and not can_pack(torch.float32):
        pytest.skip("this processor or this torch cannot pack float32")
    monkeypatch.setattr("llm_scratch.model.packed.packing_pays", lambda dtype, width: pays)
    assert isinstance(
        pack(a_model(emb_dim=128, n_layers=1)).out_head, PackedLinear if pays else nn.Linear
    )
