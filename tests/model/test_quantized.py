"""Eight and four bits: rounding and back, kernels equal to the formula, a close model."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from llm_scratch.model import build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.introspection import vocab_size
from llm_scratch.model.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    from_int4,
    from_int8,
    quantize,
    to_int4,
    to_int8,
)
from llm_scratch.model.quantized_kernels import GROUP, rounded_inputs, unpack_int4

CFG = {
    "vocab_size": 50,
    "context_length": 16,
    "emb_dim": 64,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.0,
    "qkv_bias": True,
}
WAYS = {8: to_int8, 4: to_int4}


@pytest.fixture
def weight():
    return (
        torch.randn(37, 96, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-3, 3, 37)[:, None]
    )


def test_int8_is_within_half_a_step_and_symmetric(weight):
    numbers, scale = to_int8(weight)
    assert numbers.dtype == torch.int8
    assert numbers.abs().amax(1).min() >= 126, "each row uses the whole range"
    step = scale.float()[:, None]
    assert ((from_int8(numbers, scale) - weight).abs() <= step * 0.51 + weight.abs() / 128).all()
    again, _ = to_int8(-weight)
    assert torch.equal(again, -numbers)


def test_int4_is_within_half_a_step_and_symmetric(weight):
    """The error is a whole step near the positive maximum, since there is -8 and no 8."""
    packed, scale = to_int4(weight)
    assert packed.dtype == torch.uint8
    assert packed.shape == (37, 48)
    assert scale.shape == (37, 96 // GROUP)
    assert (unpack_int4(packed).view(37, -1, GROUP).amin(2) == 0).all(), (
        "the value of largest magnitude of each group is -8"
    )
    step = scale.float().repeat_interleave(GROUP, 1)
    beyond = weight / step > 7.5
    assert 0 < beyond.float().mean() < 0.05
    most = step.abs() * torch.where(beyond, 1.0, 0.5)
    assert ((from_int4(packed, scale) - weight).abs() <= most * 1.02 + weight.abs() / 128).all()
    again, opposite = to_int4(-weight)
    assert torch.equal(again, packed)
    assert torch.equal(opposite, -scale)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_integers_are_exact(bits):
    low, top = {8: (-127, 127), 4: (-8, 7)}[bits]
    numbers = torch.randint(
        low, top + 1, (5, 64), generator=torch.Generator().manual_seed(1)
    ).float()
    numbers[:, ::GROUP] = low  # each row and each group reaches its largest value
    weight = numbers * 0.25
    back = {8: from_int8, 4: from_int4}[bits](*WAYS[bits](weight))
    assert torch.equal(back, weight)


@pytest.mark.parametrize("bits", [8, 4])
def test_zero_rows_are_quantized_to_zeros(bits):
    weight = torch.zeros(3, 64)
    layer = QuantizedLinear(*WAYS[bits](weight))
    assert not layer.weight.any()
    assert not layer(torch.randn(2, 64)).any()


@pytest.mark.parametrize("rows", [1, 3, 50])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_kernel_equals_the_formula(bits, with_bias, rows, weight):
    """Multiply the dequantized matrix by inputs rounded as this machine's kernel rounds them."""
    bias = torch.randn(37) if with_bias else None
    x = torch.randn(rows, 96) * torch.logspace(-2, 2, rows)[:, None]
    layer = QuantizedLinear(*WAYS[bits](weight), bias)
    rounded = rounded_inputs(layer.prepare().kernel, x)
    want = F.linear(
        rounded.double(), layer.weight.double(), None if bias is None else bias.double()
    )
    error = (layer(x) - want).abs() / (
        x.abs() @ layer.weight.abs().T + (1e-9 if bias is None else bias.abs())
    )
    assert error.max() < (1e-5 if "int8" not in layer.prepare().name and bits == 8 else 2**-8)
    assert layer(x).dtype == torch.float32
    assert layer(x).shape == want.shape


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_row_does_not_depend_on_other_rows(bits, weight):
    layer, x = QuantizedLinear(*WAYS[bits](weight), torch.randn(37)), torch.randn(70, 96)
    together = layer(x)
    for part in (x[:1], x[30:33], x[5:69]):
        first = int((x == part[0]).all(1).nonzero())
        torch.testing.assert_close(layer(part), together[first : first + len(part)], rtol=0, atol=0)


def test_quantized_linear_accepts_a_row_of_zeros_and_other_dtypes(weight):
    layer = QuantizedLinear(*to_int8(weight))
    assert torch.equal(layer(torch.zeros(2, 96)), torch.zeros(2, 37))
    assert layer(torch.randn(1, 2, 96, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_model_equals_the_model_with_dequantized_weights(bits, tied):
    torch.manual_seed(0)
    model = GPTModel(CFG | {"tie_embeddings": tied}).eval()
    few = quantize(copy.deepcopy(model), bits)
    assert isinstance(few.tok_emb, QuantizedEmbedding if tied else nn.Embedding)
    assert not any(isinstance(part, nn.Linear) for part in few.modules())
    for name, part in few.named_modules():  # the same weights in an ordinary model
        if isinstance(part, QuantizedLinear):
            model.get_submodule(name.replace("tok_emb.head", "out_head")).weight.data = part.weight
    if tied:
        model.tok_emb.weight = model.out_head.weight
    ids = torch.randint(0, 50, (2, 7))
    assert (few(ids) - model(ids)).norm() < 0.015 * model(ids).norm(), (
        "only inputs of products are rounded"
    )


def test_quantized_memory_is_a_quarter_and_an_eighth():
    full = sum(p.nbytes for p in GPTModel(CFG | {"emb_dim": 256}).trf_blocks.parameters())
    for bits, share in ((8, 4), (4, 7)):
        few = quantize(GPTModel(CFG | {"emb_dim": 256}), bits)
        assert sum(t.nbytes for t in few.trf_blocks.state_dict().values()) < 1.05 * full / share


def test_int4_error_names_a_matrix_with_indivisible_rows():
    with pytest.raises(ValueError, match=r"trf_blocks.0.att.W_query: rows of 48 values"):
        quantize(GPTModel(CFG | {"emb_dim": 48}), 4)
    quantize(GPTModel(CFG | {"emb_dim": 48}), 8)


def test_int4_leaves_a_model_whole_when_a_later_matrix_does_not_divide():
    model = GPTModel(CFG)
    model.trf_blocks[1].ff = nn.Linear(33, 33)
    with pytest.raises(ValueError, match="trf_blocks.1.ff: rows of 33 values"):
        quantize(model, 4)
    assert not any(isinstance(part, QuantizedLinear) for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("architecture", ["gpt", "nanochat"])
def test_chunked_reading_equals_reading_at_once(architecture, bits):
    torch.manual_seed(0)
    cfg = CFG | {"context_length": 64, "architecture": architecture}
    if architecture != "gpt":
        del cfg["qkv_bias"]
    model = build(cfg).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    few = quantize(model, bits)
    ids = torch.randint(0, 50, (1, 60))
    cache = few.new_cache(1)
    pieces = torch.cat([few(piece, cache) for piece in ids.split([40, 1, 1, 18], 1)], 1)
    torch.testing.assert_close(pieces, few(ids), rtol=1e-2, atol=1e-2)


def test_vocabulary_size_is_read_without_dequantizing_the_table(monkeypatch):
    few = quantize(GPTModel(CFG | {"tie_embeddings": True}), 8)
    monkeypatch.setattr(
        QuantizedLinear,
        "weight",
        property(lambda self: pytest.fail("the whole table was dequantized")),
    )
    assert vocab_size(few) == 50
    assert few.new_cache(1).keys[0].dtype == torch.float32
