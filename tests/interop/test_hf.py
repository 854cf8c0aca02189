"""Folders written by transformers are read with equal tensors and logits.

Errors name what is broken, or the other model.
"""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from llm_scratch.config import ModelConfig, NanoChatConfig
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.generation.decode import generate
from llm_scratch.interop.gpt2_weight_map import HF
from llm_scratch.interop.hf import config_of, load_folder, to_config
from llm_scratch.interop.hf_gpt2 import SHAPE_FIELDS
from llm_scratch.interop.weight_map import expand
from llm_scratch.loading import load
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

transformers = pytest.importorskip(
    "transformers", reason="transformers is the reference for its own folders; install the hf extra"
)
TINY = {"vocab_size": 261, "n_positions": 24, "n_embd": 24, "n_head": 3, "n_layer": 2}
CHARS = TOKENIZERS["chars"](["abcdefgh \n"])


def made(folder, shard="5GB", **changes):
    """A folder that transformers wrote, with random weights, and its model."""
    torch.manual_seed(5)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**TINY | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # biases and norms too
            parameter.normal_(std=0.2)
    theirs.save_pretrained(folder, max_shard_size=shard)
    return theirs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One such folder with a tokenizer; do not change it."""
    folder = tmp_path_factory.mktemp("theirs")
    made(folder)
    save_tokenizer(TOKENIZERS["bpe"](["abab" * 50], 260), folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the folder that tests may damage."""
    return Path(shutil.copytree(whole, tmp_path / "theirs"))


@torch.inference_mode()
def assert_same(ours, theirs):
    ids = torch.randint(0, 261, (3, 24), generator=torch.Generator().manual_seed(1))
    want = theirs(ids).logits
    assert ((ours.eval()(ids) - want).abs().max() / want.abs().max()).item() <= 1e-5


@pytest.mark.parametrize(
    ("shard", "changes"),
    [
        ("5GB", {}),
        ("10KB", {}),
        ("5GB", {"tie_word_embeddings": False}),
        ("10KB", {"tie_word_embeddings": False, "activation_function": "gelu"}),
        (
            "5GB",
            {
                "activation_function": "gelu_pytorch_tanh",
                "n_inner": 96,
                "resid_pdrop": 0.0,
                "reorder_and_upcast_attn": True,
            },
        ),
        ("5GB", {"n_layer": 1, "n_head": 1, "dtype": "float16"}),
    ],
)
def test_transformers_folder_loads_as_the_same_model(tmp_path, shard, changes):
    theirs = made(tmp_path, shard, **changes)
    assert len(list(tmp_path.glob("*.safetensors"))) == (
        1 if shard == "5GB" else len(list(tmp_path.glob("model-0*")))
    )
    ours, tokenizer = load_folder(tmp_path, CHARS)
    assert tokenizer is CHARS
    assert_same(ours, theirs)
    state = theirs.state_dict()
    for mapped in expand(HF, ours.cfg.n_layers):
        for mine, part in mapped.split(state[mapped.theirs]).items():
            assert torch.equal(ours.get_parameter(mine), part), mine
        assert torch.equal(mapped.join(ours.state_dict()), state[mapped.theirs]), mapped.theirs
    assert all(
        parameter.is_contiguous() and parameter.requires_grad for parameter in ours.parameters()
    )
    assert (ours.out_head.weight is ours.tok_emb.weight) == changes.get("tie_word_embeddings", True)


def test_load_accepts_a_transformers_folder(whole):
    model, tokenizer = load(whole)
    assert not model.training
    assert tokenizer.decode(tokenizer.encode("abba")) == "abba"
    assert generate(model, torch.tensor([[1, 2, 3]]), 4, 24).shape == (1, 7)


def test_tensor_names_with_and_without_the_transformer_prefix_are_read(copy):
    path = copy / "model.safetensors"
    before = load(copy)[0]
    weights = safetensors.torch.load(path.read_bytes())  # a copy: the file is replaced below
    plain = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    assert plain.keys() != weights.keys()
    plain |= {
        "h.0.attn.bias": torch.ones(1, 1, 24, 24),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
    }  # as the hub's gpt2 has them
    safetensors.torch.save_file(plain, path)
    after = load(copy)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
    )
    safetensors.torch.save_file(
        weights | {"wte.weight": weights["transformer.wte.weight"].clone()}, path
    )
    with pytest.raises(UserError, match=r"wte.weight occurs twice"):
        load(copy)


def test_both_spellings_of_a_tokenizer_are_read(copy):
    want = load(copy)[1].encode("abab ba")
    data = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.json").write_text(
        json.dumps(data["model"]["vocab"] | {"<|endoftext|>": len(data["model"]["vocab"]) - 1})
    )
    (copy / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in data["model"]["merges"])
    )
    assert load(copy)[1].encode("abab ba") == want
    (copy / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json") as error:
        load(copy)
    assert error.value.code == DATA


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model_type", "bert", "model_type is 'bert'; expected one of gpt2, llama"),
        ("model_type", None, "model_type is 'None'"),
        ("vocab_size", "261", "vocab_size is '261'; expected a positive integer"),
        ("n_layer", 0, "n_layer is '0'; expected a positive integer"),
        ("n_head", True, "n_head is 'True'"),
        ("n_head", 5, "n_embd is '24'; expected a multiple of n_head=5"),
        ("n_layer", 10**4, r"h\.2\.ln_1\.weight is missing, which config.json requires"),
        ("n_layer", 1, r"unknown tensor transformer\.h\.1\.attn\.c_attn\.bias"),
        (
            "n_embd",
            24 * 10**5,
            r"wte\.weight is \(261, 24\), by config.json it is \(261, 2400000\)",
        ),
        (
            "n_layer",
            10**9,
            "n_layers: 1000000000 is out of range; give a whole number from 1 to 10000",
        ),
        ("n_positions", 25, r"wpe\.weight is \(24, 24\), by config.json it is \(25, 24\)"),
        ("n_inner", 48, r"c_fc\.weight is \(24, 96\), by config.json it is \(24, 48\)"),
        ("n_inner", -1, "n_inner is '-1'; expected a positive integer"),
        ("activation_function", "tanh", "activation_function is 'tanh'; expected gelu_new or"),
        (
            "layer_norm_epsilon",
            "small",
            "layer_norm_epsilon is 'small'; expected at least 0 and below 1",
        ),
        ("layer_norm_epsilon", 0, "norm_eps: 0.0 is out of range"),
        (
            "scale_attn_by_inverse_layer_idx",
            1,
            "scale_attn_by_inverse_layer_idx is '1'; expected true or false",
        ),
        ("scale_attn_weights", False, "scale_attn_weights is 'False'; expected True"),
        ("add_cross_attention", True, "add_cross_attention is 'True'"),
        ("tie_word_embeddings", "yes", "tie_word_embeddings is 'yes'"),
        ("tie_word_embeddings", False, r"lm_head\.weight is missing"),
        ("resid_pdrop", 2, "resid_pdrop is '2'"),
        ("quantization_config", {"bits": 4}, "quantization_config is"),
        (
            "llm_scratch",
            {"qkv_bias": False},
            r"h\.0\.attn\.c_attn\.bias is not 0, but config.json has no such bias",
        ),
    ],
)
def test_setting_of_another_model_is_named(copy, setting, value, message):
    change(copy, **{setting: value})
    with pytest.raises(UserError, match=message) as error:
        load(copy)
    assert error.value.code == CHECKPOINT
    assert str(copy) in str(error.value)


def broken(folder, how):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())  # a copy: the file is replaced below
    name = "transformer.h.1.mlp.c_fc.weight"
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif how == "missing file":
        path.unlink()
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}})
        )
    else:
        tensor = weights.pop(name)
        weights |= {
            "missing": {},
            "unknown": {name: tensor, "transformer.h.1.mlp.c_gate.weight": torch.ones(2)},
            "turned": {name: tensor.T.contiguous()},
            "whole numbers": {name: tensor.to(torch.int32)},
            "not a number": {name: tensor.index_fill(0, torch.tensor([3]), torch.nan)},
            "infinite": {name: tensor.index_fill(0, torch.tensor([3]), -torch.inf)},
            "another head": {name: tensor, "lm_head.weight": torch.ones(261, 24)},
        }[how]
        safetensors.torch.save_file(weights, path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", r"model\.safetensors is damaged: its tensors have"),
        ("missing file", r"model-00001-of-00001\.safetensors is missing"),
        ("missing", r"h\.1\.mlp\.c_fc\.weight is missing"),
        ("unknown", r"unknown tensor transformer\.h\.1\.mlp\.c_gate\.weight"),
        ("turned", r"h\.1\.mlp\.c_fc\.weight is \(96, 24\), by config.json it is \(24, 96\)"),
        ("whole numbers", r"h\.1\.mlp\.c_fc\.weight holds int32; expected float32"),
        ("not a number", r"h\.1\.mlp\.c_fc\.weight has values that are not finite"),
        ("infinite", r"h\.1\.mlp\.c_fc\.weight has values that are not finite"),
        (
            "another head",
            r"lm_head\.weight differs from the token embedding, but config.json ties them",
        ),
    ],
)
def test_broken_weights_are_one_line_that_names_the_tensor(copy, how, message):
    broken(copy, how)
    with pytest.raises(UserError, match=message) as error:
        load(copy)
    assert error.value.code == CHECKPOINT
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.index_fill(0, torch.tensor([3]), torch.nan), "has values that are not finite"),
        (lambda t: t.T.contiguous(), r"is \(96, 24\), by config.json it is \(24, 96\)"),
        (lambda t: t.to(torch.int32), "holds int32; expected float32"),
        (None, "unknown tensor"),
    ],
    ids=["NaN", "shape", "dtype", "unknown"],
)
def test_hf_error_names_the_file_of_several_and_the_tensor_as_in_the_file(
    tmp_path, change, message
):
    made(tmp_path, "10KB")
    save_tokenizer(CHARS, tmp_path)
    name = "transformer.h.1.mlp.c_fc.weight"
    path = (
        tmp_path
        / json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"][name]
    )
    assert path.name != "model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())  # a copy: the file is replaced below
    bad = weights | (
        {name: change(weights[name])} if change else {"transformer.h.1.x": torch.ones(1)}
    )
    safetensors.torch.save_file(bad, path)
    message = (
        f"{path}: unknown tensor transformer.h.1.x"
        if change is None
        else f"{path}: {name} {message}"
    )
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path)
    assert error.value.code == CHECKPOINT
    assert "\n" not in str(error.value)


def test_hf_error_names_missing_and_unexpected_tensors_as_in_the_file(copy):
    path = copy / "model.safetensors"
    weights = safetensors.torch.load(path.read_bytes())  # a copy: the file is replaced below
    name = "transformer.h.1.mlp.c_fc.weight"
    safetensors.torch.save_file(
        {key: tensor for key, tensor in weights.items() if key != name}, path
    )
    with pytest.raises(UserError, match=f"{copy}: {name} is missing, which config.json requires"):
        load(copy)
    safetensors.torch.save_file(weights | {"score.weight": torch.ones(1)}, path)
    with pytest.raises(UserError, match=f"{path}: unknown tensor score.weight"):
        load(copy)


def test_pickle_is_refused_with_advice(copy):
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        UserError,
        match=r"pytorch_model\.bin is a pickle.*download model.safetensors instead, or convert it",
    ):
        load(copy)


def test_tokenizer_too_large_for_the_model_is_named(copy):
    save_tokenizer(TOKENIZERS["bpe"](["abcdefgh" * 50], 262), copy)
    with pytest.raises(UserError, match="the tokenizer has 262 tokens, the model 261"):
        load(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": True, "qkv_bias": True, "drop_rate": 0.0},
        {"activation": "gelu", "init": "mimetic"},
    ],
)
def test_settings_survive_a_round_trip_through_hf(changes):
    cfg = ModelConfig.of({mine: TINY[theirs] for theirs, mine in SHAPE_FIELDS.items()} | changes)
    config = to_config(cfg, 7, 260)
    assert config_of(config, Path("config.json")) == ModelConfig.of(dict(cfg) | {"init": "torch"})
    known = transformers.GPT2Config(**config)
    assert known.n_inner is None
    assert known.eos_token_id == 260


def test_to_config_rejects_unsupported_architecture():
    with pytest.raises(
        UserError,
        match=(
            "architecture 'nanochat': transformers has no such model; architectures that it"
            " has: gpt, llama"
        ),
    ):
        to_config(NanoChatConfig(), None, None)
