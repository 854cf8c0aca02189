"""A resumed run keeps its tokenizer and its text, even if the latest checkpoint is damaged."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig
from llm_scratch.data.corpus import TextFingerprint, prepare
from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.training.loop import train
from llm_scratch.training.run_data import newest_without_weights, prepare_for_run, text_change

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
V = 270  # the text has pairs for 277 tokens


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(TEXT)
    config = RunConfig(
        GPTConfig(vocab_size=V, context_length=8, emb_dim=12, n_heads=3, n_layers=1),
        DataConfig(source="file:text.txt", tokenizer="bpe", val_fraction=0.2),
        TrainConfig(
            steps=4, batch_size=2, eval_every=4, eval_batches=1, save_every=2, sample_every=0
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(config, folder / "run")
    return config, folder


@pytest.fixture
def run(trained_once, tmp_path, monkeypatch):
    """(settings, text file, run directory) that tests may change."""
    config, folder = trained_once
    shutil.copytree(folder, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    return config, tmp_path / "x" / "text.txt", tmp_path / "x" / "run"


def test_tokenizer_of_a_run_is_reused(run, monkeypatch):
    config, _, folder = run
    want = prepare(config)
    monkeypatch.setattr(
        "llm_scratch.data.corpus.TOKENIZERS", {"bpe": lambda *args: pytest.fail("trained again")}
    )
    found = prepare_for_run(config, folder)
    assert np.array_equal(found.train, want.train)
    assert found.text == want.text


def test_tokenizer_is_trained_when_there_is_no_run(run, tmp_path):
    config = run[0]
    assert np.array_equal(prepare_for_run(config, tmp_path / "new").train, prepare(config).train)


def test_changed_text_is_refused_before_it_is_encoded(run):
    config, text, folder = run
    text.write_text(TEXT + "more")
    for door in (prepare_for_run, train):
        with pytest.raises(UserError, match="has changed since the run's last checkpoint") as error:
            door(config, folder)
        assert error.value.code == DATA
    with pytest.raises(UserError, match="has changed since the run's last checkpoint"):
        train(config, folder, corpus=prepare(config))


def test_damaged_files_of_the_newest_checkpoint_are_not_used(run):
    newest, older = list_checkpoints(run[2])[:2]
    path = newest / "tokenizer.json"
    path.write_text(path.read_text().replace("t", "q"))
    found = newest_without_weights(run[2])
    assert found is not None
    assert found[0] == older
    assert found[1]["step"] == 2


def test_run_of_a_version_that_stored_no_hash_is_not_refused(run):
    text = TextFingerprint.of(["abc"])
    assert (
        text_change(None, text) == text_change({}, text) == text_change({"sha256": "x"}, None) == ""
    )


def test_changed_text_error_names_the_difference():
    old = json.loads(json.dumps(vars(TextFingerprint.of(["abc", "de"]))))
    assert text_change(old, TextFingerprint.of(["abc", "de"])) == ""
    assert text_change(old, TextFingerprint.of(["abc"])) == "2 documents then, 1 now"
    assert text_change(old, TextFingerprint.of(["abc", "d"])) == "5 bytes then, 4 now"
    assert (
        text_change(old, TextFingerprint.of(["ab", "cde"])) == "still 5 bytes, but different ones"
    )


def test_run_from_a_model_needs_the_model(run, tmp_path):
    """`train` loads none, and would begin with random weights."""
    config, _, folder = run
    config = replace(config, init_from="gpt2")
    with pytest.raises(UserError, match=r"init_from='gpt2': .* pass model= and corpus="):
        train(config, tmp_path / "new")
    with pytest.raises(UserError, match="it starts from random weights there, from gpt2 here"):
        train(config, folder)
