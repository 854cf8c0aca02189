"""`load` reads every kind of model: trained runs and the notebooks' files.

Nothing in a file is executed.
"""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_scratch.architectures import DeepSeekConfig, LlamaConfig
from llm_scratch.config import DataConfig, GPTConfig, RunConfig, to_dict
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.notebook import config_of
from llm_scratch.loading import load, load_for_training
from llm_scratch.model import build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.quantized import quantize
from llm_scratch.storage.checkpoint import save
from llm_scratch.storage.manifest import _with_hash
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer
from llm_scratch.training.state import unique_state_dict

CHARS = TOKENIZERS["chars"](["abc "])
NOTEBOOK = {
    "vocab_size": 50,
    "context_length": 16,
    "emb_dim": 128,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}


def saved(run, step, tied=True, best=False):
    cfg = GPTConfig(
        vocab_size=5, context_length=8, emb_dim=12, n_heads=3, n_layers=2, tie_embeddings=tied
    )
    torch.manual_seed(step)
    model = GPTModel(cfg).eval()
    config = to_dict(RunConfig(cfg, DataConfig(tokenizer="chars")))
    save(
        run,
        step,
        config,
        unique_state_dict(model),
        {},
        {"step": step},
        lambda folder: save_tokenizer(CHARS, folder),
        best,
    )
    return model


@pytest.fixture(autouse=True)
def _no_vocabulary(monkeypatch):
    monkeypatch.setitem(TOKENIZERS, "gpt2", lambda texts, vocab_size: CHARS)


def assert_same_logits(ours, theirs):
    ids = torch.tensor([[0, 1, 2, 3, 4]])
    assert torch.equal(ours(ids), theirs(ids))


@pytest.mark.parametrize("tied", [True, False])
def test_load_of_a_run_uses_its_best_checkpoint_and_of_a_checkpoint_itself(tmp_path, tied):
    best, last = saved(tmp_path, 1, tied, best=True), saved(tmp_path, 2, tied)
    model, tokenizer = load(tmp_path)
    assert_same_logits(model, best)
    assert not model.training
    assert tokenizer.encode("cab a") == CHARS.encode("cab a")
    assert_same_logits(load(str(tmp_path / "ckpt" / "step-00000002"))[0], last)
    assert (model.out_head.weight is model.tok_emb.weight) == tied


def test_damaged_best_falls_back_to_the_newest_checkpoint_with_a_warning(tmp_path, caplog):
    saved(tmp_path, 1, best=True)
    last = saved(tmp_path, 2)
    os.truncate(tmp_path / "ckpt" / "step-00000001" / "model.safetensors", 100)
    assert_same_logits(load(tmp_path)[0], last)
    assert "model.safetensors has 100 bytes instead of" in caplog.text


def test_load_fails_when_all_checkpoints_are_damaged(tmp_path):
    saved(tmp_path, 1)
    os.truncate(tmp_path / "ckpt" / "step-00000001" / "state.json", 3)
    with pytest.raises(UserError, match="all checkpoints of .* are damaged") as error:
        load(tmp_path)
    assert error.value.code == CHECKPOINT


@pytest.mark.parametrize("make", ["nothing", "empty folder", "run that saved nothing"])
def test_load_error_names_the_supported_formats(tmp_path, make):
    where = tmp_path / "x"
    if make != "nothing":
        where.mkdir()
    if make == "run that saved nothing":
        (where / "ckpt").mkdir()
    expected = {
        "nothing": r"no model at .*; expected a checkpoint, a run directory, .*hf:org/name",
        "empty folder": (
            "is not a folder of a known model format; supported are a checkpoint, a run directory"
        ),
        "run that saved nothing": "has no checkpoint yet",
    }
    with pytest.raises(UserError, match=expected[make]) as error:
        load(where)
    assert error.value.code == CHECKPOINT


def notebook_state(cfg):
    """A state_dict as the notebooks save it: with each layer's mask table."""
    torch.manual_seed(9)
    model = GPTModel(cfg).eval()
    masks = {f"trf_blocks.{i}.att.mask": torch.ones(16, 16).triu(1) for i in range(cfg["n_layers"])}
    return model, model.state_dict() | masks


@pytest.mark.parametrize("with_optimizer", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_load_accepts_a_notebook_checkpoint(tmp_path, with_optimizer, zipped, qkv_bias):
    model, state = notebook_state(NOTEBOOK | {"qkv_bias": qkv_bias})
    if with_optimizer:
        optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)
        model(torch.zeros(1, 4, dtype=torch.long)).sum().backward()
        state = {"model_state_dict": state, "optimizer_state_dict": optimizer.state_dict()}
    torch.save(state, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    loaded, _ = load(tmp_path / "model.pth", n_heads=2)
    assert dict(loaded.cfg) == dict(GPTConfig(**NOTEBOOK | {"qkv_bias": qkv_bias}))
    assert_same_logits(loaded, model)


def test_load_infers_the_shape_from_the_weights():
    big = GPTModel(NOTEBOOK | {"emb_dim": 192, "n_heads": 3, "n_layers": 1}).state_dict()
    assert config_of(big, Path("model.pth"), n_heads=3) == GPTConfig(
        vocab_size=50, context_length=16, emb_dim=192, n_heads=3, n_layers=1
    )


class Hostile:
    """An object that runs a command when an unsafe reader unpickles it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize(
    "kind", ["pickle", "torch", "torch, old format", "beside weights", "numpy"]
)
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, kind):
    marker, path = tmp_path / "it-ran", tmp_path / "model.pth"
    bomb = Hostile(marker)
    if kind == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    elif kind == "numpy":
        with path.open("wb") as file:
            np.save(file, np.array([bomb], dtype=object), allow_pickle=True)
    elif kind == "beside weights":
        torch.save(notebook_state(NOTEBOOK)[1] | {"extra": bomb}, path)
    else:
        torch.save({"tok_emb.weight": bomb}, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(UserError, match="is not a file of weights alone") as error:
        load(path)
    assert error.value.code == CHECKPOINT
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_malicious_pickle_executes_code_in_an_unsafe_reader(tmp_path):
    pickle.loads(pickle.dumps(Hostile(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a file of weights alone"),
        (b"just some text\n" * 9, "is not a file of weights alone"),
        ({"w": torch.zeros(3)}, "holds no state_dict of a GPTModel"),
        ([torch.zeros(3)], "holds no state_dict; expected names and tensors"),
        ({"tok_emb.weight": 3}, "tok_emb.weight is not a plain tensor but int"),
        ({"tok_emb.weight": torch.zeros(4, 8)}, "holds no state_dict of a GPTModel"),
    ],
    ids=["empty", "text", "other weights", "a list", "a number", "embedding alone"],
)
def test_load_error_names_a_file_of_another_kind(tmp_path, content, message):
    path = tmp_path / "model.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert error.value.code == CHECKPOINT


def test_load_error_names_a_missing_tensor(tmp_path):
    _, state = notebook_state(NOTEBOOK)
    del state["trf_blocks.1.norm2.shift"]
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"trf_blocks\.1\.norm2\.shift is missing"):
        load(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("order", "state", "expected"),
    [
        ("documents", {}, "end of text"),  # formats 1 and 2: implied by the order of the rows
        ("shuffled", {}, None),
        ("documents", {"start_id": 3}, 3),
        ("shuffled", {"start_id": None}, None),
    ],
)
def test_start_id_is_that_of_the_checkpoint(tmp_path, order, state, expected):
    tokenizer = TOKENIZERS["bpe"](["the cat"], 257)
    cfg = GPTConfig(tokenizer.n_vocab, 8, 12, 2, 1, drop_rate=0.0)
    config = to_dict(RunConfig(cfg, DataConfig(source="file:x", tokenizer="bpe", order=order)))
    counters = {"step": 1, "steps": 1, "tokens": 1, **state}
    save(
        tmp_path / "run",
        1,
        config,
        unique_state_dict(GPTModel(cfg)),
        {},
        counters,
        lambda folder: save_tokenizer(tokenizer, folder),
    )
    assert load(tmp_path / "run")[0].start_id == (
        tokenizer.eot_token if expected == "end of text" else expected
    )


def saved_family(run, cfg):
    model = build(cfg)
    for _, buffer in model.named_buffers():
        buffer.uniform_()
    weights = unique_state_dict(model)
    config = to_dict(RunConfig(cfg, DataConfig(tokenizer="chars")))
    save(run, 1, config, weights, {}, {"step": 1}, lambda folder: save_tokenizer(CHARS, folder))
    return weights


FAMILY = {"vocab_size": 5, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 2}


def test_training_starts_with_the_buffers_of_a_model_too(tmp_path):
    """The balancing bias of a router is trained, but not a parameter."""
    cfg = DeepSeekConfig(**FAMILY, n_experts=4)
    weights = saved_family(tmp_path, cfg)
    assert weights["trf_blocks.1.ff.router.balance_bias"].all()
    started = unique_state_dict(load_for_training(tmp_path, cfg)[0])
    assert started.keys() == weights.keys()
    assert all(torch.equal(started[name], weights[name]) for name in weights)


def test_shorter_context_that_would_change_rotary_positions_is_rejected(tmp_path):
    yarn = FAMILY | {"rope_scaling": "yarn", "rope_factor": 2.0}
    saved_family(tmp_path / "by context", LlamaConfig(**yarn))
    with pytest.raises(UserError, match="'yarn' depends on its context_length; set .* to 8"):
        load_for_training(tmp_path / "by context", LlamaConfig(**yarn | {"context_length": 4}))
    fixed = yarn | {"rope_trained_context": 4}
    saved_family(tmp_path / "fixed", LlamaConfig(**fixed))
    shorter = load_for_training(tmp_path / "fixed", LlamaConfig(**fixed | {"context_length": 4}))[0]
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(shorter.eval()(ids), load(tmp_path / "fixed")[0](ids))


def test_quantized_checkpoint_of_an_older_format_is_read(tmp_path):
    """Format 2 has the bits in the settings of the model, too."""
    model, tokenizer = saved(tmp_path / "run", 1), CHARS
    few = quantize(load(tmp_path / "run")[0], 8)
    config = to_dict(RunConfig(model.cfg))
    old = {**config, "model": {**config["model"], "bits": 8}}
    state = {"step": 0, "steps": 0, "tokens": 0, "quantized": 8}
    folder = save(
        tmp_path / "few",
        0,
        old,
        unique_state_dict(few),
        {},
        state,
        lambda into: save_tokenizer(tokenizer, into),
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_bytes(_with_hash({**manifest, "format": 2}))
    again = load(tmp_path / "few")[0]
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert torch.equal(again(ids), few(ids))
    assert again.cfg == model.cfg
