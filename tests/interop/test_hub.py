"""hf:org/name: the hub's own cache is used, only files that we name are asked for, and offline means offline."""

import json
import sys

import pytest
import torch

from llm_scratch.errors import CHECKPOINT, DATA, USAGE, UserError
from llm_scratch.interop.hub import from_hub
from llm_scratch.loading import load
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

hub = pytest.importorskip("huggingface_hub", reason="hf: is served by huggingface_hub; install the hf extra")
transformers = pytest.importorskip("transformers", reason="transformers writes the folder; install the hf extra")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The folder of org/tiny in an otherwise empty cache of the hub, with several weights files."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--org--tiny" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (tmp_path / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text(COMMIT)
    config = transformers.GPT2Config(vocab_size=261, n_positions=16, n_embd=24, n_head=3, n_layer=2)
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder, max_shard_size="20KB")
    save_tokenizer(TOKENIZERS["bpe"](["abab" * 50], 260), folder)
    return folder


def cached(monkeypatch, folder):
    """hf_hub_download as it is without network: what is in the cache, or the hub's own error; the names that were asked for."""
    asked = []
    real = hub.hf_hub_download

    def download(name, file, revision=None, local_files_only=False):
        asked.append(file)
        assert local_files_only, "the network would have been asked"
        return real(name, file, revision=revision, local_files_only=True, cache_dir=folder.parents[2])

    monkeypatch.setattr(hub, "hf_hub_download", download)
    return asked


def test_a_model_in_the_hubs_cache_is_loaded_without_network(snapshot, monkeypatch):
    asked = cached(monkeypatch, snapshot)
    model, tokenizer = load("hf:org/tiny")
    assert model.cfg.emb_dim == 24
    assert tokenizer.decode(tokenizer.encode("abba")) == "abba"
    shards = sorted(path.name for path in snapshot.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert asked == ["config.json", "model.safetensors", "model.safetensors.index.json", *shards, "tokenizer.json"]


def test_what_is_not_in_the_cache_is_said(snapshot, monkeypatch):
    cached(monkeypatch, snapshot)
    with pytest.raises(UserError, match="cannot get hf:org/other: the network is switched off and it is not in the hub's cache") as error:
        load("hf:org/other")
    assert error.value.code == DATA


def test_a_file_that_the_index_smuggles_in_is_not_asked_for(snapshot, monkeypatch):
    asked = cached(monkeypatch, snapshot)
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../../../secret.safetensors"}}))
    with pytest.raises(UserError, match="expected a plain name") as error:
        load("hf:org/tiny")
    assert error.value.code == CHECKPOINT
    assert not [name for name in asked if "secret" in name]


@pytest.mark.parametrize("name", ["", "/etc", "../x", "org/../x", "a/b/c", "org/na me", "org--x", "x" * 97, "org/x\n"])
def test_what_is_no_name_is_not_asked_for(name, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "hf_hub_download", lambda *args, **more: pytest.fail("it was"))
    with pytest.raises(UserError, match="names no model; expected hf:org/name") as error:
        from_hub(name)
    assert error.value.code == USAGE


def test_without_the_extra_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs the extra 'hf': pip install") as error:
        from_hub("org/tiny")
    assert error.value.code == USAGE


def test_the_command_line_takes_the_name(snapshot, monkeypatch, capsys, tmp_path):
    from llm_scratch.cli import main

    cached(monkeypatch, snapshot)
    assert main(["generate", "hf:org/tiny", "ab", "--tokens", "3", "--seed", "1", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("ab")
    text = tmp_path / "text.txt"
    text.write_text("abba " * 30)
    assert main(["evaluate", "hf:org/tiny", "--text", str(text), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "perplexity" in out
    assert "bits per byte" in out
