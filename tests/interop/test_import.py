"""nanoGPT's file and litgpt's folder: logits equal a formula in this file.

Broken files are named, and none of their code is needed.
"""

import json

import pytest
import torch
import yaml
from torch.nn import functional as F

from llm_scratch.cli.commands.import_model import tokenizer_named
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop import litgpt
from llm_scratch.loading import Options, load, read
from llm_scratch.tokenizers import TOKENIZERS

V, T, C, H, LAYERS = 37, 12, 24, 3, 2
ARGS = {
    "n_layer": LAYERS,
    "n_head": H,
    "n_embd": C,
    "block_size": T,
    "bias": True,
    "vocab_size": V,
    "dropout": 0.0,
}
LIT = {
    "name": "tiny",
    "hf_config": {},
    "block_size": T,
    "n_layer": LAYERS,
    "n_embd": C,
    "n_head": H,
    "vocab_size": V,
    "padded_vocab_size": V,
    "padding_multiple": 1,
    "rotary_percentage": 0.0,
    "parallel_residual": False,
    "bias": True,
    "norm_class_name": "LayerNorm",
    "mlp_class_name": "GptNeoxMLP",
    "gelu_approximate": "none",
    "intermediate_size": 4 * C,
    "n_query_groups": H,
    "head_size": C // H,
    "norm_eps": 1e-5,
}
NANO_NAMES = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
LIT_NAMES = ("norm_1", "attn.qkv", "attn.proj", "norm_2", "mlp.fc", "mlp.proj")
IDS = torch.randint(0, V, (2, T), generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def _small_vocabulary(monkeypatch):
    monkeypatch.setitem(TOKENIZERS, "gpt2", lambda texts, vocab_size: TOKENIZERS["chars"](["abc "]))


def weights(names, bias, shifts, positions, head):
    """Random weights under a format's names."""
    draw = torch.Generator().manual_seed(4)
    sizes = {"t.wte.weight": (V, C)} | ({"t.wpe.weight": (T, C)} if positions else {})
    for layer in range(LAYERS):
        for name, shape in zip(names, ((C,), (3 * C, C), (C, C), (C,), (4 * C, C), (C, 4 * C))):
            sizes[f"t.h.{layer}.{name}.weight"] = shape
            if shifts if len(shape) == 1 else bias:
                sizes[f"t.h.{layer}.{name}.bias"] = shape[:1]
    sizes |= {"t.ln_f.weight": (C,)} | ({"t.ln_f.bias": (C,)} if shifts else {})
    state = {
        name.replace("t.", "transformer.", 1): torch.randn(size, generator=draw) * 0.3
        for name, size in sizes.items()
    }
    state["lm_head.weight"] = (
        torch.randn(V, C, generator=draw) * 0.3 if head else state["transformer.wte.weight"]
    )
    return state


def formula(state, names, approximate="none"):
    """The logits of IDS by the formula: norm, attention, norm, feed-forward in each block."""

    def at(name):
        return state[f"transformer.{name}.weight"], state.get(f"transformer.{name}.bias")

    x = state["transformer.wte.weight"][IDS]
    if "transformer.wpe.weight" in state:
        x = x + state["transformer.wpe.weight"]
    for layer in range(LAYERS):
        ln_1, attn, proj, ln_2, fc, out = (at(f"h.{layer}.{name}") for name in names)
        q, k, v = (
            part.view(2, T, H, C // H).transpose(1, 2)
            for part in F.linear(F.layer_norm(x, (C,), *ln_1), *attn).split(C, dim=2)
        )
        scores = (q @ k.transpose(2, 3) / (C // H) ** 0.5).masked_fill(
            torch.ones(T, T).triu(1).bool(), -torch.inf
        )
        x = x + F.linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, T, C), *proj)
        x = x + F.linear(
            F.gelu(F.linear(F.layer_norm(x, (C,), *ln_2), *fc), approximate=approximate), *out
        )
    return F.linear(F.layer_norm(x, (C,), *at("ln_f")), state["lm_head.weight"])


def nano(path, state, **changes):
    saved = {
        "model": state,
        "optimizer": {},
        "model_args": ARGS | changes,
        "iter_num": 3,
        "best_val_loss": torch.tensor(1.5),
        "config": {},
    }
    torch.save(saved, path)
    return path


def lit(folder, state, **changes):
    torch.save(state, folder / "lit_model.pth")
    (folder / "model_config.yaml").write_text(yaml.safe_dump(LIT | changes))
    return folder


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
def test_nanogpt_checkpoint_loads_as_the_same_model(tmp_path, bias, compiled):
    state = weights(NANO_NAMES, bias, bias, True, False)
    want = formula(state, NANO_NAMES)
    if compiled:  # torch.compile puts this before every name; older ones hold the mask
        state = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
        state["_orig_mod.transformer.h.0.attn.bias"] = torch.ones(1, 1, T, T)
    model, _ = load(nano(tmp_path / "ckpt.pt", state, bias=bias))
    torch.testing.assert_close(model(IDS), want, rtol=1e-5, atol=1e-5)
    assert model.out_head.weight is model.tok_emb.weight
    assert (model.cfg.activation, model.cfg.qkv_bias, model.cfg.drop_rate) == ("gelu", bias, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"use_rmsnorm": True},
            "model_args has use_rmsnorm=True, which nanoGPT's model does not have",
        ),
        ({"n_layer": "2"}, "n_layer is '2'; expected a positive integer"),
        ({"n_layer": 10**4}, r"h\.2\.ln_1\.weight is missing, which model_args requires"),
        ({"n_layer": 10**9}, "n_layers: 1000000000 is out of range"),
        ({"n_layer": 1}, r"unknown tensor h\.1\."),
        ({"n_embd": 3 * 10**6}, r"wte\.weight is \(37, 24\), by model_args it is"),
        ({"n_embd": 10**12 * 3}, "n_embd is '3000000000000'; expected a positive integer"),
        ({"n_head": 5}, "n_embd=24 is not a multiple of n_head=5"),
        ({"bias": False}, r"h\.0\.attn\.c_attn\.bias is not 0"),
        ({"bias": "yes"}, "bias='yes'"),
    ],
)
def test_settings_of_nanogpt_that_do_not_fit_are_named(tmp_path, changes, message):
    path = nano(tmp_path / "ckpt.pt", weights(NANO_NAMES, True, True, True, False), **changes)
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert error.value.code == CHECKPOINT
    assert str(path) in str(error.value)


def test_tensor_of_nanogpt_that_is_missing_or_not_finite_is_named(tmp_path):
    state = weights(NANO_NAMES, True, True, True, False)
    state["transformer.h.1.mlp.c_fc.bias"][3] = torch.nan
    with pytest.raises(UserError, match=r"h\.1\.mlp\.c_fc\.bias has values that are not finite"):
        load(nano(tmp_path / "ckpt.pt", state))
    del state["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(UserError, match=r"h\.1\.mlp\.c_fc\.bias is missing"):
        load(nano(tmp_path / "ckpt.pt", state))


@torch.inference_mode()
@pytest.mark.parametrize(("bias", "approximate"), [(True, "none"), (False, "tanh")])
@pytest.mark.parametrize("wrapped", [True, False])
def test_litgpt_without_rotary_loads_as_the_same_model(tmp_path, bias, approximate, wrapped):
    state = weights(LIT_NAMES, bias, True, False, True)
    folder = lit(
        tmp_path, {"model": state} if wrapped else state, bias=bias, gelu_approximate=approximate
    )
    model, _ = load(folder)
    torch.testing.assert_close(
        model(IDS), formula(state, LIT_NAMES, approximate), rtol=1e-5, atol=1e-5
    )
    assert not model.pos_emb.weight.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rotary_percentage": 0.25},
            "rotary_percentage is '0.25'; expected 0, the only supported value",
        ),
        *[({name: "x"}, f"{name} is 'x'; expected") for name in litgpt.REQUIRED_DEFAULTS],
        ({"n_query_groups": 1}, "n_query_groups is '1'; expected 3"),
        ({"intermediate_size": 7}, "intermediate_size is '7'; expected 96"),
        ({"n_layer": 0}, "n_layer is '0'; expected a positive integer"),
        ({"n_layer": 10**4}, r"h\.2\.norm_1\.weight is missing, which model_config.yaml requires"),
        ({"n_layer": 10**9}, "n_layers: 1000000000 is out of range"),
        ({"gelu_approximate": "sigmoid"}, "gelu_approximate is 'sigmoid'"),
    ],
)
def test_settings_of_litgpt_that_do_not_fit_are_named(tmp_path, changes, message):
    folder = lit(tmp_path, weights(LIT_NAMES, True, True, False, True), **changes)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert error.value.code == CHECKPOINT


def test_litgpt_defaults_are_those_of_another_model(tmp_path):
    folder = lit(tmp_path, weights(LIT_NAMES, True, True, False, True))
    (folder / "model_config.yaml").write_text("name: pythia-14m\n")
    with pytest.raises(UserError, match="rotary_percentage is 'None'; expected 0"):
        load(folder)


def test_imported_tokenizer_is_the_given_one_that_of_the_folder_or_gpt2s(tmp_path):
    path = nano(tmp_path / "ckpt.pt", weights(NANO_NAMES, True, True, True, False))
    assert load(path)[1].n_vocab == 5  # the stub of GPT-2's tokenizer
    text = tmp_path / "input.txt"
    text.write_text("".join(map(chr, range(97, 97 + 20))))
    given = tokenizer_named(f"chars:{text}")
    assert read(path, Options(given)).tokenizer is given
    text.write_text("".join(map(chr, range(97, 97 + V + 1))))
    with pytest.raises(
        UserError,
        match=(
            rf"has {V} tokens, but the tokenizer has {V + 1}; pass the one that it was trained with"
        ),
    ):
        read(path, Options(tokenizer_named(f"chars:{text}")))
    text.write_text("".join(map(chr, range(97, 97 + V))))
    assert (
        read(path, Options(tokenizer_named(f"chars:{text}"))).tokenizer.n_vocab == V
    )  # as nanoGPT has them: no end of text
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "xyz"}})
    )
    assert load(path)[1].characters == "xyz"
    assert tokenizer_named(str(tmp_path)).characters == "xyz"
    with pytest.raises(UserError, match="unknown tokenizer 'nowhere'"):
        tokenizer_named("nowhere")


def test_unknown_file_or_folder_lists_the_supported_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        UserError,
        match=(
            r"is not a folder of a known model format; supported are a checkpoint, .*nanoGPT's"
            r" ckpt\.pt"
        ),
    ):
        load(tmp_path)
    with pytest.raises(UserError, match=r"notes\.txt is not a file of weights alone"):
        load(tmp_path / "notes.txt")
