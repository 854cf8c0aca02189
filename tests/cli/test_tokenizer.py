"""`tokenizer`: train, show and compare."""

from __future__ import annotations

import json
import re

import pytest

from llm_scratch.formatting import show_whitespace
from llm_scratch.tokenizers import ByteBPE, load_tokenizer


def test_tokenizer_train_equals_the_library(llm, tmp_path):
    result = llm(
        "tokenizer", "train", "stories:40", "--vocab-size", "300", "--out", "my tokens.json"
    )
    assert result.code == 0, result.err
    assert re.match(
        r"300 tokens trained in \d\.\d s from [\d,]+ bytes; \d\.\d\d bytes a token\n", result.out
    )
    assert "llm-scratch tokenizer show 'my tokens.json'" in result.out
    from llm_scratch.data.sources import read

    want = ByteBPE.train(read("stories:40"), 300)
    got = load_tokenizer(tmp_path / "my tokens.json")
    assert got.encode("Once upon a time") == want.encode("Once upon a time")
    assert json.loads((tmp_path / "my tokens.json").read_text())["model"]["type"] == "BPE"


@pytest.mark.parametrize(
    ("flags", "large", "want"), [((), False, 1), ((), True, 7), (("--workers", "3"), True, 3)]
)
def test_tokenizer_train_uses_several_processes_for_large_text(
    llm, monkeypatch, flags, large, want
):
    process_counts = []
    train = ByteBPE.train
    monkeypatch.setattr(
        ByteBPE,
        "train",
        lambda texts, size, processes, **more: (
            process_counts.append(processes),
            train(texts, size),
        )[1],
    )
    monkeypatch.setattr("llm_scratch.hardware.processor.cpu_count", lambda: 7)
    monkeypatch.setattr(
        "llm_scratch.cli.commands.tokenizer.LARGE_TEXT_CHARACTERS", 100 if large else 1_000_000
    )
    assert llm("tokenizer", "train", "stories:40", "--vocab-size", "300", *flags).code == 0
    assert process_counts == [want]


def test_tokenizer_train_rejects_a_negative_number_of_workers(llm):
    assert (
        "--workers: -1 is out of range"
        in llm("tokenizer", "train", "stories:40", "--workers", "-1").err
    )


@pytest.fixture
def tokens(llm, tmp_path):
    llm("tokenizer", "train", "stories:40", "--vocab-size", "300", "--out", "t.json")
    return load_tokenizer(tmp_path / "t.json")


def test_tokenizer_show_prints_every_id_below_its_token(tokens, llm):
    text = "Once upon a time,\na fox\tsat. é"
    out = llm("tokenizer", "show", "t.json", text).out
    pieces, ids = out.splitlines()[0:-2:2], out.splitlines()[1:-2:2]
    assert [int(i) for line in ids for i in line.split()] == tokens.encode(text)
    shown = "".join("".join(re.findall(r"([^|]*)\| *", line)) for line in pieces)
    assert shown == "Once·upon·a·time,⏎a·fox→sat.·<c3><a9>"
    assert (
        out.splitlines()[-1]
        == f"{len(tokens.encode(text))} tokens, 31 bytes, {31 / len(tokens.encode(text)):.2f} bytes"
        " a token"
    )
    assert max(map(len, out.splitlines())) <= 80


def test_tokenizer_show_accepts_a_run(llm, trained):
    assert "3 tokens, 3 bytes" in llm("tokenizer", "show", trained, "hen").out


def test_tokenizer_show_accepts_gpt2(llm, gpt2):
    out = llm("tokenizer", "show", "gpt2", "Hello, do you like tea?").out
    assert "15496 11 466 345  588   8887 30" in out
    assert "7 tokens, 23 bytes" in out


def test_show_whitespace_marks_spaces_and_controls():
    assert show_whitespace(" a\n\tb\x00é") == "·a⏎→b\\x00é"


def test_tokenizer_compare_counts_tokens_of_each(llm, gpt2, text_file):
    out = llm("tokenizer", "compare", "--source", f"file:{text_file}", "--vocab-size", "280").out
    table = out.partition("bytes a token\n")[2]
    rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert list(rows) == ["words", "chars", "bpe", "gpt2"]
    text = text_file.read_text()
    assert rows["chars"] == [f"{len(set(text)) + 1}", f"{len(text):,}", "1.00"]
    assert rows["bpe"][0] == "280"
    assert rows["gpt2"][:2] == ["50,257", f"{len(gpt2.encode(text)):,}"]


def test_tokenizer_compare_notes_a_tokenizer_that_fails(llm, monkeypatch, tmp_path, text_file):
    for name in ("LLM_SCRATCH_DATA", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    result = llm(
        "tokenizer", "compare", "the Ω hen", "--source", f"file:{text_file}", "--vocab-size", "280"
    )
    assert result.code == 0
    assert re.search(r"^gpt2 +- +- +-", result.out, re.M)
    assert "gpt2: GPT-2's vocabulary is not on this machine" in " ".join(result.out.split())
    assert re.search(r"^chars +- +- +-", result.out, re.M)
    assert re.search(r"^bpe +280", result.out, re.M)


def test_tokenizer_train_suggests_a_short_word(llm, tmp_path):
    """A text without blanks is one word, which no screen can show."""
    (tmp_path / "word.txt").write_text("abcdefghij" * 300)
    result = llm("tokenizer", "train", "file:word.txt", "--vocab-size", "260")
    assert result.code == 0, result.err
    assert result.out.rstrip().endswith("tokenizer show tokenizer.json abcdefghijabcdefghij")
