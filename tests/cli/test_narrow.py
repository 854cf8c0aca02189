"""Narrow terminals: help and errors in whole words, complete, in bounded time."""

from __future__ import annotations

import os
import shutil

import pytest

from llm_scratch.cli import COMMANDS
from llm_scratch.cli.narrow import at_least_columns, entries, fold, unboxed


def words_of(text):
    """Remove box-drawing characters and the colons of titles."""
    return [word.removesuffix(":") for word in text.split() if word.strip("╭╮╰╯│─-")]


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 59])
@pytest.mark.parametrize("verb", ["generate", "train", "runs list"])
def test_help_has_the_same_words_on_a_narrow_terminal(columns, verb, llm, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # tyro's boxes break no word of ours at this width
    wide = words_of(llm(*verb.split(), "--help").out)
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = llm(*verb.split(), "--help").out
    assert words_of(narrow) == wide
    assert all(len(line) <= columns or " " not in line.strip() for line in narrow.splitlines())
    assert not set("╭│╰─") & set(narrow)


@pytest.mark.parametrize("columns", [1, 5, 20, 40])
def test_help_lists_every_command_on_a_narrow_terminal(columns, llm, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = llm().out
    assert " ".join(out.split()).count("llm-scratch") == 5
    for verb, (_, about) in COMMANDS.items():
        assert f"{verb} {about}" in " ".join(out.split())
    longest = max(map(len, out.split()))
    assert max(map(len, out.splitlines())) <= max(columns, longest)


@pytest.mark.parametrize("columns", ["0", "-3", "many", ""])
def test_invalid_number_of_columns_is_ignored(columns, llm, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    result = llm("runs", "list", "--help")
    assert (result.code, result.err) == (0, "")
    monkeypatch.setenv("COLUMNS", "80")
    assert result.out == llm("runs", "list", "--help").out


@pytest.mark.parametrize("columns", ["1", "5", "20", "400"])
def test_parse_error_is_equal_at_every_width(columns, llm, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    value = "many" * 12
    result = llm("train", "quickstart", "--train.steps", value)
    want = (
        f"llm-scratch: --train.steps is '{value}'; expected a whole number;"
        " see `llm-scratch train --help`\n"
    )
    assert (result.code, result.err) == (2, want)


@pytest.mark.parametrize("before", [None, "20", "200"])
def test_at_least_columns_restores_the_variable(before, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(
        shutil,
        "get_terminal_size",
        lambda fallback=(80, 24): os.terminal_size((int(os.environ.get("COLUMNS", "30")), 24)),
    )
    if before is not None:
        monkeypatch.setenv("COLUMNS", before)
    with at_least_columns(60):
        assert shutil.get_terminal_size().columns == max(60, int(before or 30))
    assert os.environ.get("COLUMNS") == before


def test_fold_keeps_the_indent_and_long_words():
    assert fold("  one two three", 10) == "  one two\n  three"
    assert fold("one two", 5, "    ") == "one\ntwo", (
        "an indent that takes the whole width is left out"
    )
    assert fold("a-very-long-word x", 6) == "a-very-long-word\nx"
    assert fold("", 5) == ""


def test_entries_are_side_by_side_if_they_fit():
    names = {"train": "train a model"}
    assert entries(names, 80, 8) == ["  train    train a model"]
    assert entries(names, 20, 8) == ["  train", "    train a model"]


def test_unboxed_converts_a_box_to_paragraphs():
    box = """usage: x

╭─ options ────────────────────────────╮
│ --out FILE        where it goes, and │
│                   how                │
│ --a-flag-of-many-letters             │
│                   what it is         │
╰──────────────────────────────────────╯
"""
    assert (
        unboxed(box, 30) == "usage: x\n\n\noptions:\n--out FILE\n  where it goes, and"
        " how\n--a-flag-of-many-letters\n  what it is"
    )
