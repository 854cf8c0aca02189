"""Weight maps name every parameter once per format; shapes and tensors round-trip."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import HEAD, HF, LITGPT, NANOGPT, OPENAI, biases
from llm_scratch.interop.weight_map import (
    TRANSPOSED,
    Origin,
    Rule,
    TensorSpec,
    assemble,
    expand,
    match_tensors,
    set_parameters,
)
from llm_scratch.model.gpt import GPTModel

CFG = GPTConfig(
    vocab_size=31, context_length=7, emb_dim=12, n_heads=3, n_layers=2, drop_rate=0.0, qkv_bias=True
)
FORMATS = {"OpenAI": OPENAI, "Hugging Face": HF, "nanoGPT": NANOGPT, "litgpt": LITGPT}
HERE = Origin("here", "settings")


@pytest.fixture
def model():
    torch.manual_seed(2)
    return GPTModel(CFG)


def source_of(state, rules):
    """A model's weights as a format has them."""
    tensors = {
        mapped.theirs: mapped.join(state) for mapped in expand(rules, CFG.n_layers) if mapped.theirs
    }
    return SimpleNamespace(tensors=tensors, read=tensors.__getitem__)


@pytest.mark.parametrize("name", FORMATS)
def test_weight_map_has_each_parameter_once_in_the_models_order(model, name):
    mapped = list(expand(FORMATS[name], CFG.n_layers))
    assert sorted(ours for each in mapped for ours in each.ours) == sorted(
        dict(model.named_parameters())
    )
    theirs = [each.theirs for each in mapped if each.theirs]
    assert len(theirs) == len(set(theirs))
    blocks = [
        int(each.ours[0].split(".")[1]) for each in mapped if each.ours[0].startswith("trf_blocks")
    ]
    assert blocks == sorted(blocks)


@pytest.mark.parametrize("name", FORMATS)
def test_split_undoes_join(model, name):
    state = dict(model.named_parameters())
    for mapped in expand(FORMATS[name], CFG.n_layers):
        parts = mapped.split(mapped.join(state))
        assert all(torch.equal(part, state[ours]) for ours, part in parts.items())
        assert tuple(parts) == mapped.ours


@pytest.mark.parametrize("name", ["Hugging Face", "nanoGPT"])
def test_gpt2_weights_survive_a_round_trip_bit_by_bit(model, name):
    back = assemble(
        CFG, source_of(dict(model.named_parameters()), FORMATS[name]), FORMATS[name], HERE
    )
    for own, parameter in model.named_parameters():
        assert torch.equal(back.get_parameter(own), parameter), own
        assert back.get_parameter(own).untyped_storage().nbytes() == parameter.nbytes, (
            "a slice keeps the whole tensor in memory"
        )


def test_optional_tensors_are_zero_when_missing(model):
    source = source_of(dict(model.named_parameters()), NANOGPT)
    for name in [name for name in source.tensors if name.endswith("bias") and "c_attn" not in name]:
        del source.tensors[name]
    with pytest.raises(
        UserError, match=r"here: h\.0\.ln_1\.bias is missing, which settings requires"
    ) as error:
        assemble(CFG, source, NANOGPT, HERE)
    assert error.value.code == CHECKPOINT
    back = assemble(CFG, source, NANOGPT, HERE, absent=biases(with_shifts=True))
    assert not any(
        parameter.any()
        for name, parameter in back.named_parameters()
        if name.endswith(("shift", "proj.bias"))
    )
    with pytest.raises(UserError, match=r"ln_1\.bias is missing"):
        assemble(CFG, source, NANOGPT, HERE, absent=biases(with_shifts=False))


def test_tensor_without_a_parameter_must_be_zero(model):
    state = dict(model.named_parameters())
    plain = GPTConfig(**{**CFG, "qkv_bias": False, "tie_embeddings": False})
    source = source_of(state, HF)
    with pytest.raises(
        UserError,
        match=(
            r"here: transformer\.h\.0\.attn\.c_attn\.bias is not 0, but settings has no such bias"
        ),
    ):
        assemble(plain, source, HF, HERE)
    for name in source.tensors:
        if name.endswith("c_attn.bias"):
            source.tensors[name] = torch.zeros_like(source.tensors[name])
    assert torch.equal(assemble(plain, source, HF, HERE).tok_emb.weight, state["tok_emb.weight"])


def test_huge_shape_is_compared_without_allocation():
    huge = GPTConfig(vocab_size=10**9, emb_dim=12 * 10**6, n_heads=12, n_layers=10**4)
    found = {
        f"transformer.h.{layer}.ln_1.weight": TensorSpec(torch.float32, (12,)) for layer in range(3)
    }
    found["transformer.wte.weight"] = TensorSpec(torch.float32, (31, 12))
    with pytest.raises(
        UserError,
        match=r"here: transformer\.h\.3\.ln_1\.weight is missing, which settings requires",
    ):
        match_tensors(huge, found, HF, HERE)
    huge = replace(huge, n_layers=3)
    with pytest.raises(
        UserError, match=r"wte\.weight is \(31, 12\), by settings it is \(1000000000, 12000000\)"
    ):
        match_tensors(huge, found, HF, HERE)


def test_set_parameters_keeps_a_tied_head_tied():
    tied = GPTModel({**CFG, "tie_embeddings": True})
    set_parameters(tied, {"tok_emb.weight": torch.ones(31, 12, dtype=torch.float16)})
    assert tied.out_head.weight is tied.tok_emb.weight
    assert tied.tok_emb.weight.dtype == torch.float32
    assert HEAD not in dict(tied.named_parameters())


def test_fused_rule_concatenates_in_the_order_of_its_braces():
    (mapped,) = expand([Rule("a.{q,k}.weight", "fused", TRANSPOSED)], 1)
    state = {"a.q.weight": torch.zeros(1, 3), "a.k.weight": torch.ones(2, 3)}
    assert mapped.join(state).tolist() == [[0, 1, 1]] * 3
