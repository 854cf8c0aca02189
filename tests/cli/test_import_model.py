"""`import` turns a file of another program into a run.

The run generates, is evaluated and continues training.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llm_scratch.config import DataConfig, RunConfig, TrainConfig, load_config
from llm_scratch.interop.hf_tokenizer import write_tokenizer
from llm_scratch.loading import Options, load, read
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.llama import LlamaModel
from llm_scratch.presets import PRESETS
from llm_scratch.tokenizers import TOKENIZERS

CONFIG = {
    "vocab_size": 17,
    "context_length": 16,
    "emb_dim": 64,
    "n_heads": 1,
    "n_layers": 1,
    "drop_rate": 0.0,
    "qkv_bias": False,
}


@pytest.fixture
def files(tmp_path, text_file, monkeypatch):
    """The notebooks' two files of a model of the text's characters, and a preset for six steps."""
    torch.manual_seed(1)
    model = GPTModel(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randint(0, 16, (2, 16))).logsumexp(-1).mean().backward()
        optimizer.step()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    torch.save(
        {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()},
        tmp_path / "both.pth",
    )
    characters = "".join(sorted(set(text_file.read_text())))
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": characters}})
    )
    data = DataConfig(source=f"file:{text_file}", tokenizer="chars")
    small = TrainConfig(
        steps=6,
        batch_size=2,
        eval_every=6,
        eval_batches=2,
        save_every=6,
        sample_every=0,
        prompt="the",
        log_every=1,
    )
    monkeypatch.setitem(PRESETS, "small", lambda: RunConfig(data=data, train=small))
    return tmp_path


def test_imported_run_continues_the_training_of_the_notebook(llm, files):
    result = llm("import", "both.pth", "--out", "run", "--preset", "small", "--heads", "1")
    assert (result.code, result.err) == (0, "")
    assert "params" not in result.out
    assert "parameters from both.pth, with optimizer state" in result.out
    assert (
        "not in the file, assumed as in the notebooks: activation GELU in its tanh form, norm eps"
        " 1e-05, dropout 0.1" in result.out
    )
    assert "next  llm-scratch generate run\n" in result.out, (
        "the default prompt has letters that this tokenizer lacks"
    )
    assert "llm-scratch train --config run/config.yaml --out run" in result.out
    assert llm("generate", "run", "the hen", "--max-tokens", "5").code == 0
    assert llm("evaluate", "run").code == 0
    model, _ = load("run")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model.parameters(), read("both.pth", Options(n_heads=1)).model.parameters(), strict=True
        )
    )
    done = llm("train", "--config", "run/config.yaml", "--out", "run", "--device", "cpu")
    assert done.code == 0, done.err
    assert "resuming at step 0 of 6" in done.out
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0
    assert {row["lr"] for row in rows if "lr" in row} == {3e-3}
    memory = torch.load("both.pth", weights_only=True)["optimizer_state_dict"]["state"][0]["step"]
    assert load("run")[0].cfg == model.cfg
    assert (
        load_file("run/ckpt/step-00000006/optim.safetensors")["tok_emb.weight/step"] == memory + 6
    )


def test_imported_run_without_optimizer_state_starts_a_new_optimizer(llm, files):
    assert llm("import", "model.pth", "--out", "run", "--preset", "small", "--heads", "2").code == 0
    assert load("run")[0].cfg.n_heads == 2
    assert llm("train", "--config", "run/config.yaml", "--out", "run", "--device", "cpu").code == 0


def test_characters_of_a_text_make_it_the_training_text(llm, files, text_file):
    """So that the command that is printed next trains on letters that the model has."""
    (files / "tokenizer.json").unlink()
    words = ["--heads", "1", "--preset", "small", "--tokenizer", f"chars:{text_file}"]
    result = llm("import", "model.pth", "--out", "run", *words)
    assert result.code == 0, result.err
    assert load_config("run/config.yaml").data.source == f"file:{text_file}"
    assert llm("train", "--config", "run/config.yaml", "--out", "run", "--device", "cpu").code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing.pth", "--out", "run"], 4, "no run 'nothing.pth'"),
        (["model.pth"], 2, "--out is missing"),
        (["model.pth", "--out", "model.pth"], 2, "--out model.pth: the folder exists"),
        (
            ["model.pth", "--out", "run", "--preset", "smal"],
            2,
            "unknown preset 'smal'; did you mean 'small'?",
        ),
        (
            ["model.pth", "--out", "run"],
            4,
            "model.pth: the file does not contain the number of attention heads; import it with",
        ),
        (
            ["model.pth", "--out", "run", "--heads", "1", "--drop-rate", "1"],
            2,
            "--drop-rate: 1.0 is out of range",
        ),
        (
            ["model.pth", "--out", "run", "--heads", "3"],
            2,
            "its emb_dim=64 is not a multiple of 3 heads; use the number of heads used in training",
        ),
        (["model.pth", "--out", "run", "--heads", "0"], 2, "--heads: 0 is out of range"),
        (["model.pth", "--out", "run", "--tokenizer", "nowhere"], 4, "unknown tokenizer 'nowhere'"),
        (["tokenizer.json", "--out", "run"], 4, "tokenizer.json is not a file of weights alone"),
    ],
)
def test_import_error_is_one_line_and_leaves_no_folder(llm, files, words, code, message):
    before = {path.name for path in files.iterdir()}
    result = llm("import", *words)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
    assert {path.name for path in files.iterdir()} == before


@pytest.fixture
def llama_folder(tmp_path):
    """A folder that transformers wrote: a tiny Llama with random weights, and a tokenizer."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers writes the folder; install the hf extra"
    )
    tokenizer = TOKENIZERS["bpe"](["the cat sat on the mat"], 265)
    config = transformers.LlamaConfig(
        vocab_size=270,
        max_position_embeddings=24,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "theirs")
    write_tokenizer(tokenizer, tmp_path / "theirs", 24)
    return tmp_path / "theirs"


def test_import_compares_a_transformers_folder_with_transformers(llm, llama_folder, tmp_path):
    result = llm("import", llama_folder, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert "transformers computes the same: logits differ by at most" in result.out
    model, _ = load(tmp_path / "run")
    assert model.cfg.architecture == "llama"


def test_first_part_that_differs_from_transformers_is_named(
    llm, llama_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(LlamaModel, "layer_angles", lambda self, positions: [None, None])
    result = llm("import", llama_folder, "--out", tmp_path / "run")
    assert result.code == 4
    assert "the first part that differs is trf_blocks.0.att.out_proj (theirs:" in result.err
    assert not (tmp_path / "run").exists()
