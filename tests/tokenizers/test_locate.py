"""Opening a tokenizer by path: every kind of file, folder and run."""

from __future__ import annotations

import pytest

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import ByteBPE, CharTokenizer, save_tokenizer
from llm_scratch.tokenizers.locate import open_tokenizer

TEXT = "the hen sat on the red mat, and the fox ran off. " * 5


@pytest.fixture
def bpe():
    return ByteBPE.train([TEXT], 270)


def test_open_tokenizer_accepts_a_file_a_folder_and_a_run(bpe, tmp_path):
    bpe.save(tmp_path / "class.json")
    (tmp_path / "folder").mkdir()
    save_tokenizer(bpe, tmp_path / "folder")
    step = tmp_path / "run" / "ckpt" / "step-00000002"
    step.mkdir(parents=True)
    save_tokenizer(bpe, step)
    (tmp_path / "run" / "ckpt" / "latest").write_text("step-00000002\n")
    for where in ("class.json", "folder", "run", "run/ckpt/step-00000002"):
        assert open_tokenizer(tmp_path / where).encode(TEXT) == bpe.encode(TEXT)


def test_characters_are_opened_too(tmp_path):
    save_tokenizer(CharTokenizer.train([TEXT]), tmp_path)
    assert open_tokenizer(tmp_path).encode("the") == CharTokenizer.train([TEXT]).encode("the")


def test_open_tokenizer_reads_a_file_of_the_tokenizers_library(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers library")
    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        [TEXT], vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False
    )
    theirs.save(str(tmp_path / "theirs.json"))
    assert open_tokenizer(tmp_path / "theirs.json").encode(TEXT) == theirs.encode(TEXT).ids


def test_open_tokenizer_reads_gpt2s_two_files(tmp_path):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the tokenizers library")
    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train_from_iterator(
        [TEXT], vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False
    )
    theirs.save_model(str(tmp_path))
    assert open_tokenizer(tmp_path).encode(TEXT) == theirs.encode(TEXT).ids


@pytest.mark.parametrize("where", ["none.json", "."])
def test_open_tokenizer_rejects_a_path_without_a_tokenizer(where, tmp_path):
    with pytest.raises(
        UserError, match="cannot read .*; expected a tokenizer file or its folder"
    ) as error:
        open_tokenizer(tmp_path / where)
    assert error.value.code == 3
