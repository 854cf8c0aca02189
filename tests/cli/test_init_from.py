"""`train --from` takes weights, shape and tokenizer of a model for another text.

Settings that do not fit are rejected.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from llm_scratch.cli.init_from import tokenizer_name
from llm_scratch.config import load_config
from llm_scratch.data.corpus import prepare
from llm_scratch.errors import USAGE, UserError
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.loading import load, load_for_training
from llm_scratch.tokenizers import ByteBPE
from llm_scratch.training.initial_run import write_initial_run
from llm_scratch.training.run_data import text_data

STEPS = [
    *(
        "--data.val-fraction",
        "0.2",
        "--train.steps",
        "4",
        "--train.batch-size",
        "2",
        "--train.eval-every",
        "2",
        "--train.eval-batches",
        "2",
    ),
    *(
        "--train.save-every",
        "2",
        "--train.sample-every",
        "0",
        "--train.warmup-steps",
        "0",
        "--train.log-every",
        "1",
        "--device",
        "cpu",
    ),
]


@pytest.fixture
def go_on(llm, trained, text_file):
    """Call `train --from` the tiny run with more arguments."""
    return lambda *words, start=trained: llm(
        "train",
        "shakespeare",
        "--from",
        start,
        "--data.source",
        f"file:{text_file}",
        *STEPS,
        *words,
    )


def test_vocabulary_of_gpt2s_size_is_not_mistaken_for_gpt2(gpt2):
    """Otherwise a run would be continued with GPT-2's ids."""
    other = ByteBPE((), special_tokens={"<|endoftext|>": gpt2.n_vocab - 1})
    assert other.n_vocab == gpt2.n_vocab
    assert (tokenizer_name(other), tokenizer_name(gpt2)) == ("bpe", "gpt2")


def test_training_from_a_model_starts_with_its_weights_and_tokenizer(llm, trained, go_on):
    result = go_on("--out", "on", "--train.lr", "1e-9")
    assert result.code == 0, result.err
    assert f"parameters, from {trained}" in result.out
    (old, tokenizer), (new, same) = load(trained), load("on")
    assert new.cfg == old.cfg
    assert same.characters == tokenizer.characters
    for name, parameter in new.named_parameters():  # four steps with nearly zero learning rate
        torch.testing.assert_close(parameter, old.get_parameter(name), rtol=1e-5, atol=1e-6)
    again = go_on("--out", "on", "--train.lr", "1e-9")
    assert "all 4 steps are done already" in again.out
    assert "init_from: " in llm("train", "shakespeare", "--from", trained, "--print-config").out


def test_run_from_a_model_resumes_without_the_model(llm, trained, go_on):
    assert go_on("--out", "whole").code == 0
    assert go_on("--out", "cut").code == 0
    shutil.rmtree("cut/ckpt/step-00000004")
    (trained / "ckpt").rename(trained / "gone")
    assert llm("train", "--config", "cut/config.yaml", "--out", "cut", "--device", "cpu").code == 0
    whole, cut = (load(name)[0] for name in ("whole", "cut"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))


def test_run_from_another_model_is_a_new_run(llm, trained, go_on, tiny):
    assert go_on("--out", "on").code == 0
    again = llm("train", "--config", "on/config.yaml", "--from", "on", "--out", "on")
    assert again.code == 4
    assert "it starts from " in again.err
    assert "here); choose another --out" in again.err


def test_shorter_context_drops_the_last_positions(go_on, trained):
    assert (
        go_on(
            "--out",
            "on",
            "--model.context-length",
            "9",
            "--model.drop-rate",
            "0.2",
            "--train.lr",
            "1e-9",
        ).code
        == 0
    )
    (old, _), (new, _) = load(trained), load("on")
    assert (new.cfg.context_length, new.cfg.drop_rate) == (9, 0.2)
    torch.testing.assert_close(new.pos_emb.weight, old.pos_emb.weight[:9], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--model.context-length", "17"],
            2,
            "context_length=17 exceeds the 16 positions that the model was trained with",
        ),
        (
            ["--model.n-layers", "2"],
            2,
            "has n_layers=1, but the settings have n_layers=2; leave it out",
        ),
        (["--model.tie-embeddings"], 0, ""),
        (
            ["--model.no-tie-embeddings"],
            2,
            "has tie_embeddings=True, but the settings have tie_embeddings=False",
        ),
        (["--data.tokenizer", "bpe"], 2, "--data.tokenizer cannot be combined with --from"),
    ],
)
def test_from_rejects_settings_that_do_not_fit_the_weights(go_on, words, code, message):
    result = go_on("--out", "on", *words)
    assert result.code == code
    assert message in result.err


def test_from_rejects_an_unknown_model(go_on):
    result = go_on("--out", "on", start="nothing")
    assert result.code == 4
    assert (
        "no run 'nothing' here or in runs/; list the runs with `llm-scratch runs list`, or use"
        " gpt2, gpt2-medium" in result.err
    )


def test_from_gpt2_without_network_suggests_a_fix(go_on, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)
    result = go_on("--out", "on", start="gpt2")
    assert result.code == 3
    assert "downloads are disabled" in result.err
    assert "LLM_SCRATCH_DATA" in result.err


def test_from_rejects_shards_of_another_tokenizer(llm, trained, text_file):
    assert (
        llm("data", "prepare", f"file:{text_file}", "--out", "shards", "--tokenizer", "chars").code
        == 0
    )
    words = ["train", "shakespeare", "--from", trained, "--data.source", "shards:shards", *STEPS]
    assert llm(*words, "--out", "same").code == 0
    path = Path("shards/tokenizer.json")
    data = json.loads(path.read_text())
    data["model"]["characters"] = data["model"]["characters"][::-1]
    path.write_text(json.dumps(data))
    other = llm(*words, "--out", "other")
    assert other.code == 2
    assert "the shards have another tokenizer" in other.err


def test_load_for_training_rejects_the_same_settings(trained):
    model, tokenizer = load(trained)
    made, same = load_for_training(trained, model.cfg)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), made.parameters(), strict=True)
    )
    assert (made.out_head.weight is made.tok_emb.weight) == model.cfg.tie_embeddings
    with pytest.raises(UserError, match="that the model was trained with") as error:
        load_for_training(trained, type(model.cfg)(**dict(model.cfg) | {"context_length": 99}))
    assert error.value.code == USAGE


def test_run_from_a_model_keeps_its_start_token(llm, trained, go_on):
    """Every row of the new run begins with it, also after a restart, and so does a prompt."""
    (model, tokenizer), config = load(trained), load_config(trained / "config.yaml")
    model.start_id = 3
    write_initial_run(Path("started"), config, model, tokenizer, {})
    assert go_on("--out", "on", start="started").code == 0
    assert load("on")[0].start_id == 3
    assert go_on("--out", "on", "--train.steps", "6", start="started").code == 0
    assert load("on")[0].start_id == 3
    assert encode_prompt(load("on")[0], tokenizer, "the")[0] == 3
    config = load_config("on/config.yaml")
    for folder, start in (("on", model), ("new", model)):
        data = text_data(config, prepare(config, tokenizer), Path(folder), start)
        assert data.start_id == 3
        assert all((part.batch(1)[0][:, 0] == 3).all() for part in (data.train, data.val))
    for words in (["evaluate", "on"], ["memorization", "on", "--samples", "2"]):
        result = llm(*words)
        assert result.code == 0, result.err
