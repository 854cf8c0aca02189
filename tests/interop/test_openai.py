"""OpenAI's GPT-2: every parameter is mapped correctly, and logits equal transformers'.

After an error the model is unchanged.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.generation.decode import generate
from llm_scratch.interop.openai import (
    assign,
    download_and_load_gpt2,
    load_gpt2_params_from_tf_ckpt,
    load_weights_into_gpt,
    model_configs,
)
from llm_scratch.interop.tensorflow_writer import write
from llm_scratch.loading import load
from llm_scratch.model.gpt import GPTModel

TINY = Path(__file__).parent / "tiny_gpt2"
SETTINGS = {"n_vocab": 261, "n_ctx": 16, "n_embd": 8, "n_head": 2, "n_layer": 2}
CONFIG = {
    "vocab_size": 261,
    "context_length": 16,
    "emb_dim": 8,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": True,
}


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(TINY / "expected.npz"))


@pytest.fixture
def params():
    return load_gpt2_params_from_tf_ckpt(TINY / "model.ckpt", SETTINGS)


@pytest.fixture
def copy(tmp_path):
    """A copy of the tiny release that tests may damage."""
    return Path(shutil.copytree(TINY, tmp_path / "124M"))


def leaves(tree, path=()):
    if isinstance(tree, np.ndarray):
        yield path, tree
    else:
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, key))


def test_openai_settings_and_params_equal_the_notebooks(tmp_path, params, expected):
    shutil.copytree(TINY, tmp_path / "gpt2" / "124M")
    settings, loaded = download_and_load_gpt2("124M", tmp_path / "gpt2")
    assert settings == SETTINGS
    assert set(loaded) == {"wte", "wpe", "g", "b", "blocks"}
    found = dict(leaves(loaded))
    assert len(found) == len(expected) == 28
    for path, array in found.items():
        name = "model/" + "/".join(
            f"h{key}" if isinstance(key, int) else key for key in path if key != "blocks"
        )
        value = expected[
            name.replace("model/g", "model/ln_f/g").replace("model/b", "model/ln_f/b")
        ].squeeze()
        assert (array.shape, array.dtype, array.tobytes()) == (
            value.shape,
            np.float32,
            value.tobytes(),
        ), path


def by_hand(expected, layer):
    """One of our layers from the release's values, name by name."""
    at = {
        name.removeprefix(f"model/h{layer}/"): value
        for name, value in expected.items()
        if name.startswith(f"model/h{layer}/")
    }
    w, b = at["attn/c_attn/w"][0], at["attn/c_attn/b"]
    return {
        "att.W_query.weight": w[:, 0:8].T,
        "att.W_key.weight": w[:, 8:16].T,
        "att.W_value.weight": w[:, 16:24].T,
        "att.W_query.bias": b[0:8],
        "att.W_key.bias": b[8:16],
        "att.W_value.bias": b[16:24],
        "att.out_proj.weight": at["attn/c_proj/w"][0].T,
        "att.out_proj.bias": at["attn/c_proj/b"],
        "ff.layers.0.weight": at["mlp/c_fc/w"][0].T,
        "ff.layers.0.bias": at["mlp/c_fc/b"],
        "ff.layers.2.weight": at["mlp/c_proj/w"][0].T,
        "ff.layers.2.bias": at["mlp/c_proj/b"],
        "norm1.scale": at["ln_1/g"],
        "norm1.shift": at["ln_1/b"],
        "norm2.scale": at["ln_2/g"],
        "norm2.shift": at["ln_2/b"],
    }


def assert_bit_equal(model, expected):
    want = {"tok_emb.weight": "wte", "pos_emb.weight": "wpe", "out_head.weight": "wte"}
    want |= {"final_norm.scale": "ln_f/g", "final_norm.shift": "ln_f/b"}
    want = {ours: expected[f"model/{theirs}"] for ours, theirs in want.items()}
    for layer in range(2):
        want |= {
            f"trf_blocks.{layer}.{name}": value for name, value in by_hand(expected, layer).items()
        }
    state = model.state_dict()
    assert set(state) == set(want)
    for name, value in want.items():
        assert state[name].numpy().tobytes() == np.ascontiguousarray(value).tobytes(), name
        assert state[name].is_contiguous(), name


@pytest.mark.parametrize("tied", [True, False])
def test_openai_parameters_are_mapped_to_their_names(params, expected, tied):
    gpt = GPTModel(CONFIG | {"tie_embeddings": tied})
    load_weights_into_gpt(gpt, params)
    assert_bit_equal(gpt, expected)
    assert (gpt.out_head.weight is gpt.tok_emb.weight) == tied
    assert all(parameter.requires_grad for parameter in gpt.parameters())
    before = params["wte"].copy()
    with torch.no_grad():
        gpt.tok_emb.weight.zero_()
    assert np.array_equal(params["wte"], before)
    assert bool(gpt.out_head.weight.any()) != tied


def test_load_accepts_an_openai_folder(copy, expected):
    model, tokenizer = load(copy)
    assert_bit_equal(model, expected)
    assert model.out_head.weight is model.tok_emb.weight
    assert not model.training
    assert model.cfg == GPTConfig(**CONFIG, tie_embeddings=True)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    ids = tokenizer.encode("the theater")
    assert tokenizer.decode(ids) == "the theater"
    assert tokenizer.n_vocab == 261
    assert tokenizer.eot_token == 260
    assert 258 in ids  # " the", the third merge
    assert generate(model, torch.tensor([ids]), 3, 16).shape == (1, len(ids) + 3)


@torch.inference_mode()
def test_openai_logits_equal_transformers(expected):
    transformers = pytest.importorskip(
        "transformers",
        reason="transformers is the reference for GPT-2's logits; install the hf extra",
    )
    config = transformers.GPT2Config(vocab_size=261, n_positions=16, n_embd=8, n_head=2, n_layer=2)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    state = {}
    for name, value in expected.items():
        name = name.removeprefix("model/").replace("/", ".")
        name = f"h.{name[1:]}" if name[0] == "h" else name
        leaf = {"g": "weight", "b": "bias", "w": "weight"}.get(name.rpartition(".")[2])
        name = f"{name.rpartition('.')[0]}.{leaf}" if leaf else f"{name}.weight"
        state[f"transformer.{name}"] = torch.tensor(value[0] if value.ndim == 3 else value)
    missing = theirs.load_state_dict(state, strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["lm_head.weight"], [])
    theirs.tie_weights()
    ids = torch.randint(0, 261, (3, 16), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load(TINY)[0](ids), theirs(ids).logits, rtol=1e-4, atol=1e-5)


def test_assign_equals_the_notebooks():
    left = torch.zeros(2, 3, dtype=torch.float64)
    right = np.arange(6, dtype=np.float32).reshape(3, 2).T
    made = assign(left, right)
    assert isinstance(made, torch.nn.Parameter)
    assert made.tolist() == right.tolist()
    assert made.dtype == torch.float64
    assert assign(left, torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2
    with pytest.raises(
        ValueError, match=r"^Shape mismatch\. Left: torch\.Size\(\[2, 3\]\), Right: \(3, 2\)$"
    ):
        assign(left, right.T)


def wrong_shape(params):
    params["blocks"][1]["mlp"]["c_proj"]["w"] = params["blocks"][1]["mlp"]["c_proj"]["w"].T


BROKEN = {
    "last matrix turned": (
        wrong_shape,
        ValueError,
        r"Shape mismatch\. Left: .*\[8, 32\].*, Right: \(32, 8\) \(trf_blocks\.1\.ff\.layers\.2",
    ),
    "qkv of 23": (
        lambda p: p["blocks"][1]["attn"]["c_attn"].update(b=np.zeros(23)),
        ValueError,
        "Shape mismatch. h1/attn/c_attn/b is .23,",
    ),
    "qkv of nothing": (
        lambda p: p["blocks"][1]["attn"]["c_attn"].update(b=np.zeros(())),
        ValueError,
        "Shape mismatch. h1/attn/c_attn/b",
    ),
    "a norm is missing": (
        lambda p: p["blocks"][1]["ln_2"].pop("g"),
        UserError,
        "the weights have no h1/ln_2/g",
    ),
    "a branch is missing": (
        lambda p: p["blocks"][1].pop("mlp"),
        UserError,
        "the weights have no h1/mlp/c_fc/w",
    ),
    "three layers": (
        lambda p: p["blocks"].append(p["blocks"][0]),
        UserError,
        "have 3 layers and the model 2; build it with n_layers=3",
    ),
    "no layers": (lambda p: p.pop("blocks"), UserError, "have 0 layers"),
    "another vocabulary": (
        lambda p: p.update(wte=p["wte"][:-1]),
        ValueError,
        r"Right: \(260, 8\) \(tok_emb\.weight\)",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_weights_leave_the_model_as_it_was(params, fault):
    breaks, kind, message = BROKEN[fault]
    breaks(params)
    gpt = GPTModel(CONFIG)
    before = {
        name: (parameter, parameter.detach().clone()) for name, parameter in gpt.named_parameters()
    }
    with pytest.raises(kind, match=message) as error:
        load_weights_into_gpt(gpt, params)
    assert getattr(error.value, "code", CHECKPOINT) == CHECKPOINT
    for name, parameter in gpt.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_model_without_biases_is_an_error(params):
    with pytest.raises(
        UserError,
        match=(
            r"the model has no trf_blocks\.0\.att\.W_query\.bias, which .*; build it with"
            r" qkv_bias=True"
        ),
    ):
        load_weights_into_gpt(GPTModel(CONFIG | {"qkv_bias": False}), params)


def test_openai_sizes_are_the_four_of_the_release():
    sizes = [
        GPTConfig(**shape, qkv_bias=True, tie_embeddings=True).n_params // 1_000_000
        for shape in model_configs.values()
    ]
    assert [name.split("(")[1] for name in model_configs] == ["124M)", "355M)", "774M)", "1558M)"]
    assert sizes == [124, 354, 774, 1557]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a JSON object"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        (json.dumps({"n_vocab": 261}), "not a JSON object with n_vocab, n_ctx"),
        (json.dumps(SETTINGS | {"n_head": 3}), "n_embd=8 is not a multiple of n_head=3"),
        (json.dumps(SETTINGS | {"n_ctx": 0}), "n_ctx is '0'; expected a positive integer"),
        (json.dumps(SETTINGS | {"n_ctx": True}), "n_ctx is 'True'"),
        (json.dumps(SETTINGS | {"n_layer": 10**4}), "model/h2/ln_1/g is missing"),
        (json.dumps(SETTINGS | {"n_layer": 10**9}), "n_layers: 1000000000 is out of range"),
        (json.dumps(SETTINGS | {"n_layer": 1}), "unknown tensor model/h1/attn/c_attn/b"),
        (
            json.dumps(SETTINGS | {"n_embd": 10**6}),
            r"model/wte is \(261, 8\), by hparams.json it is \(261, 1000000\)",
        ),
        (json.dumps(SETTINGS | {"n_embd": 10**12}), "emb_dim: 1000000000000 is out of range"),
        (
            json.dumps(SETTINGS | {"n_vocab": 10**6}),
            r"model/wte is \(261, 8\), by hparams.json it is",
        ),
        (json.dumps(SETTINGS | {"n_vocab": 10**12}), "vocab_size: 1000000000000 is out of range"),
    ],
)
def test_invalid_openai_settings_are_refused_before_the_model_is_built(copy, text, message):
    (copy / "hparams.json").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load(copy)
    assert error.value.code == CHECKPOINT
    assert str(copy) in str(error.value)


def rewritten(folder, expected, **changes):
    write(
        folder / "model.ckpt",
        {
            name: changes.get(name.rpartition("model/")[2].replace("/", "_"), value)
            for name, value in expected.items()
        },
    )
    return folder


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.full(8, np.nan, np.float32), "model/h1/ln_2/b has values that are not finite"),
        (np.zeros(8, np.int32), "model/h1/ln_2/b holds int32; expected float32"),
        (np.zeros(9, np.float32), r"model/h1/ln_2/b is \(9,\), by hparams.json it is \(8,\)"),
    ],
)
def test_invalid_openai_weights_are_refused(copy, expected, value, message):
    assert_bit_equal(load(rewritten(copy, expected))[0], expected)
    rewritten(copy, expected, h1_ln_2_b=value)
    for read in (
        load,
        lambda folder: load_gpt2_params_from_tf_ckpt(folder / "model.ckpt", SETTINGS),
    ):
        with pytest.raises(UserError, match=message) as error:
            read(copy)
        assert error.value.code == CHECKPOINT


def test_openai_loader_ignores_unrelated_files(copy, expected):
    write(copy / "model.ckpt", expected | {"global_step": np.array(7)})
    assert_bit_equal(load(copy)[0], expected)


def test_vocabulary_that_is_missing_or_too_large_is_named(copy):
    (copy / "hparams.json").write_text(json.dumps(SETTINGS))
    os.rename(copy / "vocab.bpe", copy / "kept")
    with pytest.raises(UserError, match=r"vocab\.bpe") as error:
        load(copy)
    assert error.value.code == DATA
    (copy / "vocab.bpe").write_text((copy / "kept").read_text() + "a b\n")
    tokens = json.loads((copy / "encoder.json").read_text()) | {"ab": 261}
    (copy / "encoder.json").write_text(json.dumps(tokens))
    with pytest.raises(UserError, match="encoder.json has 262 tokens and the model 261") as error:
        load(copy)
    assert error.value.code == CHECKPOINT


def test_notebooks_module_reexports_the_openai_loader(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "notebook")
    import gpt_download

    assert gpt_download.download_and_load_gpt2 is download_and_load_gpt2
