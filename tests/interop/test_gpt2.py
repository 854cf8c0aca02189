"""GPT-2 by name: a local release is preferred, else the pinned file.

Offline mode makes no request.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import DATA, UserError
from llm_scratch.interop import gpt2
from llm_scratch.interop.gpt2_weight_map import HF, HF_PREFIX
from llm_scratch.interop.openai_files import GPT2
from llm_scratch.interop.weight_map import expand
from llm_scratch.loading import load
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage import download
from llm_scratch.tokenizers import TOKENIZERS

TINY = Path(__file__).parent / "tiny_gpt2"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Use an empty folder and cache, offline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)


@pytest.mark.parametrize("name", GPT2)
@pytest.mark.parametrize("place", ["here", "data", "cache"])
def test_local_release_is_used(tmp_path, monkeypatch, name, place):
    base = {
        "here": tmp_path / "gpt2",
        "data": tmp_path / "data" / "gpt2",
        "cache": tmp_path / "cache" / "gpt2",
    }[place]
    if place == "data":
        monkeypatch.setenv("LLM_SCRATCH_DATA", str(tmp_path / "data"))
    shutil.copytree(TINY, base / GPT2[name])
    model, tokenizer = load(name)
    assert model.cfg.vocab_size == tokenizer.n_vocab == 261


@pytest.mark.parametrize("name", GPT2)
def test_gpt2_offline_error_names_the_file_and_its_folder(name):
    with pytest.raises(UserError, match="downloads are disabled .*LLM_SCRATCH_DATA") as error:
        load(name)
    assert error.value.code == DATA


def test_gpt2_reads_the_pinned_file_and_rejects_another(tmp_path, monkeypatch):
    cfg = GPTConfig(
        vocab_size=50,
        context_length=8,
        emb_dim=12,
        n_heads=3,
        n_layers=2,
        qkv_bias=True,
        tie_embeddings=True,
    )
    ours = GPTModel(cfg).eval()
    state = dict(ours.named_parameters())
    file = tmp_path / "data" / "gpt2.safetensors"
    file.parent.mkdir()
    mapped = [each for each in expand(HF, 2) if each.ours != ("out_head.weight",)]
    weights = {
        each.theirs.removeprefix(HF_PREFIX): each.join(state).detach().contiguous()
        for each in mapped
    }
    masks = {
        f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril() for i in range(2)
    }  # as the hub's file has them
    safetensors.torch.save_file(weights | masks, file)
    pin = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(
        download.FILES,
        "gpt2.safetensors",
        download.Remote(("https://x.org/f",), pin, file.stat().st_size),
    )
    monkeypatch.setattr(gpt2, "gpt2_config", lambda size: cfg)
    monkeypatch.setitem(TOKENIZERS, "gpt2", lambda texts, vocab_size: TOKENIZERS["chars"](["abc"]))
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(file.parent))
    model, _ = load("gpt2")
    assert all(
        torch.equal(parameter, model.get_parameter(name))
        for name, parameter in ours.named_parameters()
    )
    assert model.out_head.weight is model.tok_emb.weight
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(
        UserError, match=r"gpt2\.safetensors differs from the expected file .* with sha256"
    ):
        load("gpt2")


def test_gpt2_sizes_have_their_shapes():
    assert [gpt2.gpt2_config(size).n_params // 10**6 for size in GPT2.values()] == [
        124,
        354,
        774,
        1557,
    ]
