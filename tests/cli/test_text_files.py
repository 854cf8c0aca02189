"""Every command reads text files by the same rules.

They cover encodings, line ends, empty documents, and errors with their position.
"""

from __future__ import annotations

import gzip
import json

import pytest

from .conftest import TINY

TEXT = "the hen sat on the red mat, and the fox ran off.\n" * 8
FILES = {
    "utf-8 mark": TEXT.encode("utf-8-sig"),
    "windows": TEXT.replace("\n", "\r\n").encode(),
    "old mac": TEXT.replace("\n", "\r").encode(),
    "utf-16": TEXT.encode("utf-16"),
}
BAD = {
    "latin": (
        TEXT.encode() + b"na\xefve",
        "is not UTF-8 text (byte 394 is 0xef, line 9); convert it",
    ),
    "binary": (b"the\nhen\0", "is a binary file (byte 7 is 0, line 2); expected text"),
    "gzip": (gzip.compress(TEXT.encode()), "is gzip-compressed; decompress it first"),
    "utf-16 cut": (TEXT.encode("utf-16")[:-1], "is not UTF-16 text"),
}
COMMANDS = {
    "train": ["train", "shakespeare", "--data.source", "file:{0}", *TINY.split(), "--out", "run"],
    "train text": ["train", "text", "{0}", "--print-config"],
    "data show": ["data", "show", "file:{0}"],
    "data prepare": [
        "data",
        "prepare",
        "{0}",
        "--out",
        "shards",
        "--tokenizer",
        "chars",
        "--workers",
        "1",
    ],
    "tokenizer train": ["tokenizer", "train", "file:{0}", "--vocab-size", "270"],
    "tokenizer compare": ["tokenizer", "compare", "a", "--source", "file:{0}"],
    "evaluate": ["evaluate", "{run}", "--text", "{0}"],
    "generate": ["generate", "{run}", "--file", "{0}", "--max-tokens", "1"],
}


def words(name, trained, path="a.txt"):
    return [word.format(path, run=trained) for word in COMMANDS[name]]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", BAD)
def test_invalid_text_error_names_file_and_position(name, kind, llm, trained, tmp_path):
    data, problem = BAD[kind]
    (tmp_path / "a.txt").write_bytes(data)
    result = llm(*words(name, trained))
    assert result.code == 3
    assert f"a.txt {problem}" in result.err


def outputs(llm, trained, tmp_path, name):
    """The output of the quick commands on a file, without times."""
    (tmp_path / "a.txt").write_bytes(FILES.get(name, TEXT.encode()))
    shown = llm("data", "show", "file:a.txt").out
    loss = llm("evaluate", trained, "--text", "a.txt").out
    written = llm("generate", trained, "--file", "a.txt", "--max-tokens", "20", "--seed", "1").out
    prepared = llm(
        "data",
        "prepare",
        "a.txt",
        "--out",
        f"shards {name}",
        "--tokenizer",
        "chars",
        "--workers",
        "1",
    )
    assert prepared.code == 0, prepared.err
    return shown, loss, written, (tmp_path / f"shards {name}" / "shard-00000.bin").read_bytes()


def test_encodings_and_line_ends_do_not_change_the_text_read(llm, trained, tmp_path):
    plain = outputs(llm, trained, tmp_path, "plain")
    assert "392, 16 different" in plain[0]
    assert plain[2].startswith(TEXT.rstrip("\n"))
    for name in FILES:
        assert outputs(llm, trained, tmp_path, name) == plain, name


@pytest.mark.filterwarnings("default:.*are left out")
def test_empty_documents_are_skipped_and_counted(llm, trained, tmp_path, monkeypatch):
    """300 texts among 1,000 empty ones once ended `train text` in ZeroDivisionError."""
    monkeypatch.setattr("llm_scratch.planning.choose_run.TRIAL_SECONDS", 0.02)
    monkeypatch.setattr("llm_scratch.planning.choose_run.PLAN_SECONDS", 0.02)
    rows = [json.dumps({"text": TEXT if i < 300 else " \n" if i % 2 else ""}) for i in range(1300)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    for name in ("train text", "tokenizer train", "data show", "evaluate"):
        result = llm(*words(name, trained, "a.jsonl"))
        assert result.code == 0, (name, result.err)
        assert "1,000 of 1,300 documents are empty and are left out" in result.err
    prepared = llm(*words("data prepare", trained, "a.jsonl"))
    assert "of 300 documents in 1 shard" in " ".join(prepared.out.split())
    assert "1,000 empty skipped" in prepared.out
