"""Sources: each returns its text, and an unreadable one is one clear error."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from llm_scratch.data import sources
from llm_scratch.data.sources import DOWNLOADED, SOURCES, on_this_machine, read
from llm_scratch.errors import DATA, USAGE, UserError
from llm_scratch.storage.download import FILES


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    """Simulate a machine without downloads and network."""
    monkeypatch.delenv("LLM_SCRATCH_DATA", raising=False)
    monkeypatch.setenv("LLM_SCRATCH_OFFLINE", "1")
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_source_verdict_is_the_notebooks_text(data_dir, monkeypatch, verdict):
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
    assert read("verdict") == [verdict]
    assert len(verdict) == 20_479
    assert verdict.startswith("I HAD always thought Jack Gisburn rather a cheap genius")


def test_shakespeare_is_the_complete_text(data_dir, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
    (text,) = read("shakespeare")
    assert len(text) == 1_115_394
    assert text.startswith("First Citizen:\nBefore we proceed any further")


@pytest.mark.parametrize(
    ("name", "file"), [("verdict", "the-verdict.txt"), ("shakespeare", "tinyshakespeare.txt")]
)
def test_source_error_without_network_suggests_a_fix(name, file, no_data, tmp_path):
    with pytest.raises(
        UserError,
        match=(
            f"cannot download {file}: .* save it as FOLDER/{file} and set LLM_SCRATCH_DATA=FOLDER"
        ),
    ) as error:
        read(name)
    assert error.value.code == DATA
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", DOWNLOADED)
def test_location_of_a_downloaded_text_is_known_without_reading(
    name, no_data, tmp_path, monkeypatch
):
    file, size = DOWNLOADED[name], FILES[DOWNLOADED[name]].size
    assert on_this_machine(name) is None
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / file).write_bytes(bytes(size))
    assert on_this_machine(name) == tmp_path / "cache" / file
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(tmp_path))
    (tmp_path / file).write_bytes(bytes(size - 1))
    assert on_this_machine(name) == tmp_path / "cache" / file
    (tmp_path / file).write_bytes(bytes(size))
    assert on_this_machine(name) == tmp_path / file


def test_every_source_has_a_description():
    assert all(
        source.__doc__ and "\n" not in source.__doc__.split(".")[0] for source in SOURCES.values()
    )


def test_stories_source_uses_the_first_seeds():
    from llm_scratch.data.stories import generate_story

    assert read("stories:3") == [generate_story(seed).text for seed in range(3)]


def test_stories_are_twenty_thousand_by_default(monkeypatch):
    from llm_scratch.data import stories

    story = stories.generate_story(0)
    monkeypatch.setattr(stories, "generate_story", lambda seed: story)
    assert len(read("stories")) == 20_000


@pytest.mark.parametrize(
    "argument", ["0", "-1", "many", "1.5", "³", "1e4", "1000000001", "9" * 5000]
)
def test_stories_reject_invalid_number(argument):
    with pytest.raises(UserError, match="not a number of stories"):
        read(f"stories:{argument}")


# Python's documentation.


def test_python_docs_are_documents_of_prose():
    documents = read("python-docs")
    assert len(documents) > 40
    assert 200_000 < sum(map(len, documents)) < 800_000
    assert documents == read("python-docs")
    assert documents[0].startswith('The "assert" statement\n\nAssert statements are')
    assert sum("for" in re.findall("[a-z]+", text) for text in documents) > 25
    assert all(text == text.strip("\n") and text for text in documents)


def test_python_docs_leave_out_underlines_tables_and_grammar():
    text = "\n".join(read("python-docs"))
    assert not re.search(r"^\s*([-=*~^])\1{2,}\s*$", text, re.M)
    assert not re.search(r"^\s*[+|]", text, re.M)
    assert "::=" not in text
    assert "Source code:" not in text
    assert "\n\n\n" not in text


def test_python_docs_have_no_long_repetitions():
    documents = [{p for p in text.split("\n\n") if len(p) > 40} for text in read("python-docs")]
    for i, one in enumerate(documents):
        for other in documents[:i]:
            assert len(one & other) <= 0.6 * min(len(one), len(other))


def test_python_docs_fail_without_pydoc_data(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(UserError, match="pydoc_data") as error:
        read("python-docs")
    assert error.value.code == DATA


# The user's files.


def test_source_file_is_one_document(here):
    (here / "a.txt").write_bytes("ein\r\nzwei\rdrei\n€".encode("utf-8-sig"))
    assert read("file:a.txt") == ["ein\nzwei\ndrei\n€"]
    assert read(f"file:{here / 'a.txt'}") == ["ein\nzwei\ndrei\n€"]


def test_pattern_matches_are_sorted_by_name(here):
    for name in ("b.txt", "a.txt", "c.md", "deep/down/d.txt"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    (here / "folder.txt").mkdir()
    assert read("file:*.txt") == ["a.txt", "b.txt"]
    assert read("file:**/*.txt") == ["a.txt", "b.txt", "deep/down/d.txt"]
    assert read("file:[bc].*") == ["b.txt", "c.md"]


def test_existing_file_named_like_a_pattern_is_read(here):
    (here / "a[1].txt").write_text("one")
    assert read("file:a[1].txt") == ["one"]


def test_home_folder_in_a_path_is_expanded(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    (here / "a.txt").write_text("one")
    assert read("file:~/a.txt") == read("file:~/*.txt") == ["one"]


def test_jsonl_line_is_one_document(here):
    rows = [{"text": "one\ntwo", "id": 1}, {"text": "três"}, {"text": ""}]
    (here / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    with pytest.warns(
        UserWarning, match="^file:a.jsonl: 1 of 3 documents are empty and are left out$"
    ):
        assert read("file:a.jsonl") == ["one\ntwo", "três"]


def test_source_folder_includes_subfolders(here):
    for name in ("b.txt", "a.md", "deep/c.txt", ".hidden", ".git/d.txt"):
        (here / "books" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "books" / name).write_text(name)
    (here / "books" / "e.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert (
        read("file:books") == read("file:books/") == ["a.md", "b.txt", "deep/c.txt", "one", "two"]
    )


def test_files_of_a_folder_that_are_not_text_are_left_out_and_named(here):
    (here / "books").mkdir()
    (here / "books" / "b.txt").write_text("text")
    (here / "books" / "cover.png").write_bytes(b"\x89PNG\0")
    (here / "books" / "empty.txt").write_bytes(b"")
    (here / "books" / "film.mkv").write_bytes(b"\0" * 100_000)
    with (
        pytest.warns(
            UserWarning,
            match="^books: 2 of 4 files are not text and are left out: cover.png, film.mkv$",
        ),
        pytest.warns(
            UserWarning, match="^file:books: 1 of 2 documents are empty and are left out$"
        ),
    ):
        assert read("file:books") == ["text"]


def test_pattern_with_one_empty_file_is_read(here):
    for name, data in {
        "a.txt": b"one",
        "b.txt": b"",
        "c.txt": b"\xef\xbb\xbf \r\n",
        "d.txt": b"two",
    }.items():
        (here / name).write_bytes(data)
    with pytest.warns(
        UserWarning, match=r"^file:\*.txt: 2 of 4 documents are empty and are left out$"
    ):
        assert read("file:*.txt") == ["one", "two"]


def test_large_binary_file_is_detected_from_its_beginning(here, monkeypatch):
    read_so_far = []
    real = sources.read_bytes
    monkeypatch.setattr(
        sources, "read_bytes", lambda path, *where: read_so_far.append(where) or real(path, *where)
    )
    (here / "books").mkdir()
    (here / "books" / "a.txt").write_text("text")
    (here / "books" / "film.mkv").write_bytes(b"\0" * 100_000)
    with pytest.warns(UserWarning, match="film.mkv"):
        read("file:books")
    assert read_so_far == [(0, sources.PEEK_BYTES), (0, sources.PEEK_BYTES), ()]


def test_damaged_jsonl_in_a_folder_is_an_error(here):
    (here / "books").mkdir()
    (here / "books" / "a.txt").write_text("text")
    (here / "books" / "b.jsonl").write_text('{"text"')
    with pytest.raises(UserError, match=r"b.jsonl line 1 is not a JSON object"):
        read("file:books")


def test_list_of_paths_keeps_its_order(here):
    for name in ("z.txt", "a.txt", "books/m.txt"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(name)
    assert read('file:["z.txt", "books", "a*.txt"]') == ["z.txt", "books/m.txt", "a.txt"]
    assert read("file:[za].txt") == ["a.txt", "z.txt"], "a pattern is not a list"


BAD = {
    "missing.txt": (None, "cannot read missing.txt: No such file"),
    "*.none": (None, "no file matches"),
    "": (None, "has no path"),
    "empty.txt": (b"", "empty.txt is empty"),
    "blank.txt": (b"\xef\xbb\xbf \n\t\n", "blank.txt is empty"),
    "nul.txt": (b"text\0more", r"nul.txt is a binary file \(byte 4 is 0, line 1\)"),
    "latin.txt": (
        "a\nnaïve".encode("latin-1"),
        r"latin.txt is not UTF-8 text \(byte 4 is 0xef, line 2\)",
    ),
    "wide.txt": ("text".encode("utf-16-le"), r"wide.txt is UTF-16 without .* \(byte 1 is 0"),
    "packed.txt": (gzip.compress(b"text"), "packed.txt is gzip-compressed; decompress it first"),
    "folder": (..., r"the folder folder holds no text files \(0 files in all\)"),
    '["a.txt", "none.txt"]': (None, "cannot read a.txt: No such file"),
    '["*.none"]': (None, "no file matches"),
    "broken.jsonl": (b'{"text": "a"}\n{"text"', "broken.jsonl line 2 is not a JSON object"),
    "list.jsonl": (b"\n[1]\n", "list.jsonl line 2"),
    "other.jsonl": (b'{"content": "a"}', 'with a "text"'),
    "number.jsonl": (b'{"text": 3}', "line 1"),
    "half.jsonl": (b'{"text": "\\ud800"}', "line 1"),
    "deep.jsonl": (b"[" * 100_000, "line 1"),
    "hollow.jsonl": (b'{"text": " "}', "holds no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_source_that_is_not_text_raises_one_error(name, here):
    data, reason = BAD[name]
    if data is ...:
        (here / name).mkdir()
    elif data is not None:
        (here / name).write_bytes(data)
    with pytest.raises(UserError, match=reason) as error:
        read(f"file:{name}")
    assert error.value.code == DATA
    assert "\n" not in str(error.value)


def test_unreadable_file_is_an_error(here, monkeypatch):
    def refused(path, mode):
        raise PermissionError(13, "Permission denied")

    (here / "a.txt").write_text("one")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match="cannot read a.txt: Permission denied") as error:
        read("file:a.txt")
    assert error.value.code == DATA


# Names.


def test_unknown_source_suggests_the_nearest(here):
    with pytest.raises(
        UserError, match="unknown source 'verdct'; did you mean 'verdict'?"
    ) as error:
        read("verdct")
    assert error.value.code == USAGE
    (here / "books.txt").write_text("one")
    with pytest.raises(UserError, match="for the file use 'file:books.txt'"):
        read("books.txt")


@pytest.mark.parametrize("source", ["verdict:2", "python-docs:3", "shakespeare:hamlet"])
def test_source_argument_without_effect_is_an_error(source):
    with pytest.raises(UserError, match="takes no argument"):
        read(source)


def test_custom_source_is_one_function_and_one_line(monkeypatch):
    monkeypatch.setitem(SOURCES, "mine", lambda argument: [f"word {argument}"])
    assert read("mine:a:b") == ["word a:b"]
    monkeypatch.setitem(SOURCES, "nothing", lambda argument: ["", " \n"])
    with pytest.raises(UserError, match="'nothing' holds no text"):
        read("nothing")


def test_pattern_takes_brackets_in_an_existing_folder_literally(tmp_path):
    folder = tmp_path / "texts [1]"
    folder.mkdir()
    (tmp_path / "texts 1").mkdir()
    (tmp_path / "texts 1" / "other.txt").write_text("no", encoding="utf-8")
    for name in ("a.txt", "b.txt", "c [2].txt"):
        (folder / name).write_text(name, encoding="utf-8")
    assert read(f"file:{folder}/*.txt") == ["a.txt", "b.txt", "c [2].txt"]
    assert read(f"file:{folder}/[ab].txt") == ["a.txt", "b.txt"]
    assert read(f"file:{folder}/c [2].txt") == ["c [2].txt"]
    assert read(f"file:{tmp_path}/texts [1]/a.txt") == ["a.txt"]
