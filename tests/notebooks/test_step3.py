"""Step 3, the GPT model: the notebook's printed values.

Its mistakes must not return.
"""

from __future__ import annotations

import re

import pytest
import torch

from attention import MultiHeadAttention
from llm_gpt import (
    GELU,
    DummyGPTModel,
    ExampleDeepNeuralNetwork,
    FeedForward,
    GPTModel,
    LayerNorm,
    TransformerBlock,
    generate_text_simple,
    print_gradients,
)
from llm_scratch.config import GPTConfig, ModelConfig

# The notebook calls this GPT_CONFIG_124M; it is GPT-2 XL.
XL = {
    "vocab_size": 50257,
    "context_length": 1024,
    "emb_dim": 1600,
    "n_heads": 25,
    "n_layers": 48,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
TEXTS = "Every effort moves you", "Every day holds a"
BATCH = torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]])


def ends(logits):
    """The first and last three scores of the first token, as a printed tensor shows them."""
    return torch.cat([logits[0, 0, :3], logits[0, 0, -3:]])


def gradients(use_shortcut, capsys):
    torch.manual_seed(123)
    print_gradients(
        ExampleDeepNeuralNetwork([3, 3, 3, 3, 3, 1], use_shortcut), torch.tensor([[1.0, 0.0, -1.0]])
    )
    found = re.findall(
        r"^layers\.(\d)\.0\.weight has gradient mean of (\S+)$",
        capsys.readouterr().out,
        re.MULTILINE,
    )
    assert [layer for layer, _ in found] == list("01234")
    return [float(size) for _, size in found]


def test_cell_4_two_texts_become_a_batch(gpt2):
    assert [gpt2.encode(text) for text in TEXTS] == BATCH.tolist()


def test_cell_5_the_outline(assert_prints):
    torch.manual_seed(123)
    logits = DummyGPTModel(XL)(BATCH)
    assert logits.shape == (2, 4, 50257)
    assert_prints(ends(logits), [0.1251, 1.1525, -1.3001, -0.4876, 0.5665, 0.5488])


def test_cells_8_10_16_shapes():
    x = torch.randn(2, 1000) * 7 + 3
    y = LayerNorm(1000)(x)
    assert y.shape == (2, 1000)
    torch.testing.assert_close(y.mean(-1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(2), atol=1e-4, rtol=0)
    assert list(LayerNorm(5).state_dict()) == ["scale", "shift"]
    assert FeedForward(XL)(torch.rand(2, 3, 1600)).shape == (2, 3, 1600)
    assert isinstance(FeedForward(XL | {"emb_dim": 8}).layers[1], GELU)


def test_cell_19_gradients_fade_without_shortcuts(capsys):
    printed = [0.000201735878, 0.000120111610, 0.000715204165, 0.001398873865, 0.005049646366]
    assert gradients(False, capsys) == pytest.approx(printed, rel=1e-6)


def test_cell_22_a_block_keeps_the_shape():
    torch.manual_seed(123)
    block = TransformerBlock(XL)
    assert isinstance(block.att, MultiHeadAttention)
    assert block(torch.rand(2, 4, 1600)).shape == (2, 4, 1600)


def test_cells_26_to_29_counts():
    with torch.device("meta"):  # shapes without numbers: the model itself takes 6.2 GB
        model = GPTModel(XL)
    total = sum(weight.numel() for weight in model.parameters())
    assert total == ModelConfig.of(XL).n_params == 1_637_792_000
    assert model.tok_emb.weight.shape == model.out_head.weight.shape == (50257, 1600)
    assert (
        total - model.out_head.weight.numel()
        == ModelConfig.of(XL | {"tie_embeddings": True}).n_params
        == 1_557_380_800
    )
    assert f"{total * 4 / 1024**2:.2f} MB" == "6247.68 MB"


@pytest.mark.slow
def test_cells_25_and_32_to_34_complete_model(assert_prints, gpt2):
    """Takes 6.3 GB of memory."""
    torch.manual_seed(123)
    model = GPTModel(XL)
    with torch.no_grad():
        logits = model(BATCH)
    assert logits.shape == (2, 4, 50257)
    assert_prints(ends(logits), [-0.1291, 0.3885, 0.1057, 0.0180, 0.2309, -0.3901])
    ids = gpt2.encode("Hello, I am")
    assert ids == [15496, 11, 314, 716]
    out = generate_text_simple(model.eval(), torch.tensor([ids]), 6, XL["context_length"])
    assert out[0].tolist() == [*ids, 25307, 7702, 20644, 13679, 12023, 29430]
    assert gpt2.decode(out[0].tolist()) == "Hello, I am 164 radicalBrown!' beef KR"


# What went wrong in the notebook


def test_124m_is_124_million():
    """The notebook's GPT_CONFIG_124M described a model thirteen times as large."""
    small = GPTConfig()
    assert list(XL) == list(small)[1:8]
    assert GPTConfig(tie_embeddings=True, qkv_bias=True).n_params == 124_439_808
    assert ModelConfig.of(XL).n_params > 10 * small.n_params


def test_outline_applies_its_norm():
    """The notebook created the norm and never called it."""
    model, called = DummyGPTModel(XL | {"emb_dim": 25, "vocab_size": 7, "n_layers": 1}), []
    model.final_norm.register_forward_hook(lambda *_: called.append(1))
    model(torch.zeros(1, 2, dtype=torch.long))
    assert called == [1]


def test_gradient_experiment_has_its_second_half(capsys):
    """With shortcuts the gradient of the first layer is a thousand times as large.

    The notebook stopped before this half.
    """
    without, with_shortcuts = gradients(False, capsys), gradients(True, capsys)
    assert with_shortcuts[0] > 500 * without[0]
    assert min(with_shortcuts) > 0.1
