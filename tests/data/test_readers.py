"""Chunks of a source: every byte is in exactly one, and cuts change no token.

Errors have their position.
"""

from __future__ import annotations

import gzip
import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_scratch.data import readers
from llm_scratch.data.readers import FileSpan, open_source, split_text
from llm_scratch.data.sources import SOURCES
from llm_scratch.errors import DATA, USAGE, UserError
from llm_scratch.storage.download import WITHOUT_NETWORK
from llm_scratch.tokenizers import ByteBPE

LINES = [
    "the cat sat.",
    "It's   3 o'clock,\tsaid Zoë…",
    "日本語の文 です。",
    "",
    "  two blanks ",
    "\u3000wide",
    "\x1c\x85odd",
    "don't  \n\n stop",
    "👩‍👩‍👧",
    "// a path: /usr/bin",
]
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@pytest.fixture
def small(monkeypatch):
    """Use chunks of 64 bytes instead of a megabyte."""
    monkeypatch.setattr(readers, "CHUNK_BYTES", 64)
    monkeypatch.setattr(readers, "OPEN_FILE_BYTES", 10)


def documents(source, field="text"):
    """The documents of a source, joined from its chunks."""
    found: list[str] = []
    for portion in open_source(str(source), field).chunks():
        for part in portion:
            for begins, text in part.texts():
                if begins:
                    found.append("")
                found[-1] += text
    return found


# Cuts.


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
def test_portions_of_a_file_join_to_the_file(small, tmp_path, ends, begin):
    text = "\n".join(LINES * 20)
    (tmp_path / "a.txt").write_bytes(begin + text.replace("\n", ends).encode())
    assert documents(tmp_path / "a.txt") == [text]
    stretches = [
        part for portion in open_source(str(tmp_path / "a.txt")).chunks() for part in portion
    ]
    assert len(stretches) > 10
    assert [part.begin for part in stretches[1:]] == [part.end for part in stretches[:-1]]
    assert stretches[-1].end == (tmp_path / "a.txt").stat().st_size


@pytest.mark.parametrize("letter", ["x", "é", "語", "👧", "\n", "\r\n", " "])
def test_text_without_a_safe_cut_is_cut_between_characters(small, tmp_path, letter):
    (tmp_path / "a.txt").write_bytes((letter * 500).encode())
    assert documents(tmp_path / "a.txt") == [(letter * 500).replace("\r\n", "\n")]
    assert len(list(open_source(str(tmp_path / "a.txt")).chunks())) > 2


@pytest.fixture(scope="module")
def tokenizers():
    """Tokenizers that split text by the patterns of GPT-2, GPT-4 and GPT-4o."""
    vocabulary = ByteBPE.train(["\n".join(LINES * 3)], 330).vocabulary
    slashes = ByteBPE.train([".\n// a path.\n" * 9], 265, pattern=GPT4O)  # has a token ".\n//"
    return [ByteBPE(vocabulary), ByteBPE(vocabulary, pattern=GPT4), slashes]


@given(
    lines=st.lists(st.sampled_from(LINES) | st.text(max_size=12), max_size=8),
    joint=st.sampled_from(["\n", "\n\n", " ", " \n", ".\n", "\r\n"]),
)
@settings(max_examples=150, deadline=None)
def test_tokens_do_not_cross_a_cut(tokenizers, lines, joint):
    text = joint.join(lines)
    for tokenizer in tokenizers:
        ids = tokenizer.encode(text)
        for found in readers._CUT.finditer(text):
            assert (
                tokenizer.encode(text[: found.end()]) + tokenizer.encode(text[found.end() :]) == ids
            )


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_text_in_portions_has_the_same_tokens(tokenizers, tmp_path, monkeypatch, ends):
    monkeypatch.setattr(readers, "CHUNK_BYTES", 512)
    text = "\n".join(LINES * 40)
    (tmp_path / "a.txt").write_bytes(text.replace("\n", ends).encode())
    from_file = [
        part
        for portion in open_source(str(tmp_path / "a.txt")).chunks()
        for one in portion
        for _, part in one.texts()
    ]
    for parts in (from_file, list(split_text(text))):
        assert len(parts) > 5
        assert "".join(parts) == text
        for tokenizer in tokenizers:
            assert [i for part in parts for i in tokenizer.encode(part)] == tokenizer.encode(text)


def test_lines_of_json_are_never_cut(small, tmp_path):
    texts = [line * n for n, line in enumerate(LINES * 3)]
    (tmp_path / "a.jsonl").write_text(
        "\n\n".join(json.dumps({"id": 1, "body": text}) for text in texts) + "\r\n",
        encoding="utf-8",
    )
    assert documents(tmp_path / "a.jsonl", "body") == texts
    assert len(list(open_source(str(tmp_path / "a.jsonl"), "body").chunks())) > 5


def test_reader_rejects_a_line_that_is_too_long(small, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 1 << 20)
    short = json.dumps({"text": "x"}) + "\n"
    (tmp_path / "a.jsonl").write_text(short * 9 + json.dumps({"text": "y" * (3 << 20)}))
    with pytest.raises(
        UserError,
        match=(
            r"a.jsonl line 10 is longer than 1 MiB, the most that is held in memory; expected one"
            r" document per line"
        ),
    ) as error:
        documents(tmp_path / "a.jsonl")
    assert error.value.code == DATA


# Kinds of sources.


def test_reader_sorts_the_files_of_a_folder(small, tmp_path):
    (tmp_path / "b").mkdir()
    for name, text in {
        "c.txt": "third",
        "b/x.md": "second",
        "a.txt": "first " * 40,
        ".hidden": "no",
        "b/empty.txt": "",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "d.jsonl").write_text('{"text": "fourth"}\n{"text": "fifth"}')
    assert documents(tmp_path) == ["first " * 40, "", "second", "third", "fourth", "fifth"]
    assert documents(f"file:{tmp_path}/*.txt") == ["first " * 40, "third"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_files_with_a_wide_byte_order_mark_are_read_completely(small, tmp_path, encoding):
    text = "Zoë\r\n語 👧\n" * 40
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    (tmp_path / "b.jsonl").write_bytes(
        "".join(json.dumps({"text": word}) + "\n" for word in LINES * 3).encode(encoding)
    )
    assert documents(tmp_path) == [text.replace("\r\n", "\n"), *LINES * 3]


def test_files_that_are_not_text_are_left_out_of_a_folder(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "cover.png").write_bytes(b"\x89PNG\0")
    with pytest.warns(UserWarning, match="1 of 2 files are not text and are left out: cover.png$"):
        assert documents(tmp_path) == ["text"]


def test_small_files_share_a_portion(tmp_path):
    for n in range(50):
        (tmp_path / f"{n:02}.txt").write_text(f"number {n}")
    assert len(list(open_source(str(tmp_path)).chunks())) == 1
    assert documents(tmp_path) == [f"number {n}" for n in range(50)]


def test_other_sources_yield_their_documents(monkeypatch):
    monkeypatch.setitem(SOURCES, "mine", lambda argument: ["one", f"two {argument}"])
    assert documents("mine:x") == ["one", "two x"]
    assert open_source("mine:x").metadata != open_source("mine:y").metadata


def test_source_has_precedence_over_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("in the folder")
    assert documents("mine") == documents("./mine") == ["in the folder"]
    monkeypatch.setitem(SOURCES, "mine", lambda argument: ["of the source \ud800"])
    assert documents("mine") == ["of the source \ud800"]


def test_parquet_gives_its_rows(small, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `data`")
    from pyarrow import parquet

    texts = ["", "one", None, *LINES * 20]
    parquet.write_table(
        pyarrow.table({"id": range(len(texts)), "body": texts}),
        tmp_path / "a.parquet",
        row_group_size=50,
    )
    assert documents(tmp_path / "a.parquet", "body") == [text or "" for text in texts]
    with pytest.raises(
        UserError, match="a.parquet has no column 'text'; choose one with --field: id, body"
    ) as error:
        documents(tmp_path / "a.parquet")
    assert error.value.code == DATA
    with pytest.raises(
        UserError, match="the column 'id' of .*a.parquet holds int, such as '0'; expected strings"
    ):
        documents(tmp_path / "a.parquet", "id")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(UserError, match="is not a readable .parquet file"):
        documents(tmp_path / "a.parquet", "body")


def test_hub_dataset_is_read_by_rows(small, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the extra `data`")
    rows = datasets.Dataset.from_dict(
        {
            "id": list(range(100)),
            "text": [f"{line} {n}" for n, line in enumerate((LINES * 12)[:100])],
        }
    )
    requested = []
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *names, **more: requested.append((*names, more["split"])) or rows,
    )
    assert documents("hf:someone/tales:small") == list(rows["text"])
    assert requested[0] == ("someone/tales", "small", "train")
    with pytest.raises(
        UserError, match="hf:someone/tales has no column 'body'; choose one with --field: id, text"
    ):
        open_source("hf:someone/tales", "body")


def test_hub_dataset_error_suggests_a_fix(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the extra `data`")

    def offline(*names, **more):
        raise ConnectionError("Couldn't reach\nthe Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    monkeypatch.setattr("llm_scratch.storage.download.why_cache_only", lambda url: "")
    with pytest.raises(
        UserError,
        match="cannot load the dataset 'nobody/none': Couldn't reach the Hub; expected hf:NAME",
    ) as error:
        open_source("hf:nobody/none")
    assert error.value.code == DATA


@pytest.mark.parametrize("disabled", [False, True])
def test_hub_dataset_is_tried_once_without_a_network(monkeypatch, tmp_path, disabled):
    datasets = pytest.importorskip("datasets", reason="needs the extra `data`")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("LLM_SCRATCH_OFFLINE", "1" if disabled else "")
    requested = []

    def unknown(host, *rest, **more):
        requested.append(host)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UserError) as error:
        open_source("hf:nobody/none")
    reason = "downloads are disabled" if disabled else "the hub cannot be reached"
    assert str(error.value) == (
        f"cannot load the dataset 'nobody/none': {reason} and it is not in the hub's cache;"
        f" expected hf:NAME or hf:NAME:CONFIG. {WITHOUT_NETWORK}"
    )
    assert requested == ([] if disabled else ["huggingface.co"])
    assert not datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("source", "library"), [("a.parquet", "pyarrow"), ("hf:someone/tales", "datasets")]
)
def test_missing_library_error_names_the_extra(tmp_path, monkeypatch, source, library):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(
        UserError, match=rf"{source} needs the library {library}: pip install pyarrow datasets"
    ) as error:
        documents(source)
    assert error.value.code == USAGE


# Unreadable files.

BAD = {
    "empty folder": (
        None,
        (
            r"the folder .* holds no text files \(0 files in all\); expected UTF-8 text, .jsonl or"
            r" .parquet"
        ),
    ),
    "latin.txt": (
        "é".encode("latin-1") * 3 + b"x" * 200,
        r"latin.txt is not UTF-8 text \(byte 0 is 0xe9, line 1\)",
    ),
    "late.txt": (
        b"word " * 60 + b"\xff",
        r"late.txt is not UTF-8 text \(byte 300 is 0xff, line 1\)",
    ),
    "bom.txt": (b"\xef\xbb\xbfab\xff", r"bom.txt is not UTF-8 text \(byte 5 is 0xff, line 1\)"),
    "binary.txt": (b"word " * 60 + b"\0", r"binary.txt is a binary file \(byte 300 is 0, line 1\)"),
    "lines.txt": (
        b"some words\n" * 60 + b"\xff",
        r"lines.txt is not UTF-8 text \(byte 660 is 0xff, line 61\)",
    ),
    "bytes.jsonl": (
        b'{"text": "x"}\n' * 30 + b'{"text": "\xff"}',
        r"bytes.jsonl is not UTF-8 text \(byte 430 is 0xff, line 31\)",
    ),
    "packed.txt": (
        gzip.compress(b"text" * 50),
        "packed.txt is gzip-compressed; decompress it first",
    ),
    "bad.jsonl": (
        b'{"text": "x"}\n' * 30 + b'{"text": "x"\n',
        'bad.jsonl line 31 is not a JSON object with a "text"; expected',
    ),
    "none.jsonl": (
        b'\n{"text": "x"}\n' * 10 + b'{"body": "x"}\n',
        "none.jsonl line 21 is not .*; its fields are 'body'; expected",
    ),
    "number.jsonl": (b'{"text": 3}', 'number.jsonl line 1 is not a JSON object with a "text"'),
    "half.jsonl": (b'{"text": "\\ud800"}', 'half.jsonl line 1 is not a JSON object with a "text"'),
    "list.jsonl": (b"[1, 2]", 'list.jsonl line 1 is not a JSON object with a "text"'),
}


@pytest.mark.parametrize("name", BAD)
def test_reader_error_names_file_and_line(small, tmp_path, name):
    data, reason = BAD[name]
    if data is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=reason) as error:
        documents(tmp_path / name)
    assert error.value.code == DATA
    assert "\n" not in str(error.value)


def test_reader_rejects_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot read .*/none.txt: No such file"):
        open_source(f"file:{tmp_path}/none.txt")
    with pytest.raises(UserError, match="unknown source 'none.txt'"):
        open_source("none.txt")


def test_reader_rejects_a_file_that_shrinks(tmp_path):
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(UserError, match="a.txt was truncated while it was read"):
        list(FileSpan(tmp_path / "a.txt", 0, 50, "text").texts())
