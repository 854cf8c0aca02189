"""The table of names: every parameter once for each format, shapes by formula as the model has them, join undoes split."""

from types import SimpleNamespace

import pytest
import torch

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import (
    HEAD,
    HF,
    LITGPT,
    NANOGPT,
    OPENAI,
    ROWS,
    TensorSpec,
    assemble,
    biases,
    join,
    match_tensors,
    names,
    set_parameters,
    shape,
    split,
    their_shape,
)  # fmt: skip
from llm_scratch.model.gpt import GPTModel

CFG = ModelConfig(vocab_size=31, context_length=7, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True)
STYLES = {"OpenAI": OPENAI, "Hugging Face": HF, "nanoGPT": NANOGPT, "litgpt": LITGPT}


@pytest.fixture
def model():
    torch.manual_seed(2)
    return GPTModel(CFG)


def table(state, style):
    """A model's weights as a format has them."""
    tensors = {theirs: join(state, ours, style) for theirs, ours in names(style, CFG.n_layers) if theirs}
    return SimpleNamespace(tensors=tensors, read=tensors.__getitem__)


def test_the_table_has_four_columns():
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("style", STYLES)
def test_each_parameter_is_there_once(model, style):
    found, expected = list(names(STYLES[style], CFG.n_layers)), dict(model.named_parameters())
    assert sorted(name for _, ours in found for name in ours) == sorted(expected)
    theirs = [name for name, _ in found if name]
    assert len(theirs) == len(set(theirs))


def test_shapes_by_formula_are_the_models(model):
    for name, parameter in model.named_parameters():
        assert shape(name, CFG) == tuple(parameter.shape), name


@pytest.mark.parametrize("style", STYLES)
def test_join_undoes_split(model, style):
    state, how = dict(model.named_parameters()), STYLES[style]
    for theirs, ours in names(how, CFG.n_layers):
        if theirs:
            whole = join(state, ours, how)
            assert tuple(whole.shape) == their_shape(ours, CFG, how)
            assert all(torch.equal(part, state[name]) for name, part in split(ours, whole, how).items())


@pytest.mark.parametrize("style", ["Hugging Face", "nanoGPT"])
def test_a_model_comes_back_bit_by_bit(model, style):
    back = assemble(CFG, table(dict(model.named_parameters()), STYLES[style]), STYLES[style], "here", "settings")
    for name, parameter in model.named_parameters():
        assert torch.equal(back.get_parameter(name), parameter), name
        assert back.get_parameter(name).untyped_storage().nbytes() == parameter.nbytes, "a part keeps the whole in memory"


def test_optional_tensors_are_zero_when_missing(model):
    source = table(dict(model.named_parameters()), NANOGPT)
    for name in [name for name in source.tensors if name.endswith("bias") and "c_attn" not in name]:
        del source.tensors[name]
    with pytest.raises(UserError, match=r"here: h\.0\.ln_1\.bias is missing, which settings asks for") as error:
        assemble(CFG, source, NANOGPT, "here", "settings")
    assert error.value.code == CHECKPOINT
    back = assemble(CFG, source, NANOGPT, "here", "settings", absent=biases(with_shifts=True))
    assert not any(parameter.any() for name, parameter in back.named_parameters() if name.endswith(("shift", "proj.bias")))
    with pytest.raises(UserError, match=r"ln_1\.bias is missing"):
        assemble(CFG, source, NANOGPT, "here", "settings", absent=biases(with_shifts=False))


def test_a_shape_without_end_is_compared_and_not_built():
    huge = ModelConfig(vocab_size=10**9, emb_dim=12 * 10**6, n_heads=12, n_layers=10**4)
    with pytest.raises(UserError, match=r"wte\.weight is \(31, 12\), by settings it is \(1000000000, 12000000\)"):
        match_tensors(huge, {"wte.weight": TensorSpec(torch.float32, (31, 12))}, HF, "here", "settings")


def test_set_parameters_keeps_a_tied_head_tied():
    tied = GPTModel({**CFG, "tie_embeddings": True})
    set_parameters(tied, {"tok_emb.weight": torch.ones(31, 12, dtype=torch.float16)})
    assert tied.out_head.weight is tied.tok_emb.weight
    assert tied.tok_emb.weight.dtype == torch.float32
    assert HEAD not in dict(tied.named_parameters())
