"""Formatting of numbers, tables and texts for a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from llm_scratch.cli.terminal import boxed, table, truncate
from llm_scratch.formatting import format_bytes, format_count, sanitize, shell_command


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (9999, "9,999"),
        (12_345, "12.3k"),
        (999_949, "1,000k"),
        (1_638_400, "1.64 M"),
        (162_419_712, "162 M"),
        (7.2e9, "7.2 G"),
        (6.9999e12, "7 T"),
    ],
)
def test_format_count_uses_units(number, shown):
    assert format_count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (950, "950 B"),
        (12_345, "12.1 KiB"),
        (1023 * 1024, "1,023 KiB"),
        (2**20, "1 MiB"),
        (3.21 * 2**30, "3.21 GiB"),
        (3e15, "2,728 TiB"),
    ],
)
def test_format_bytes_uses_binary_units(number, shown):
    assert format_bytes(number) == shown


LANGUAGES = {
    "Persian non-joiner": "می\u200cخواهم",
    "Hindi joiner": "क्\u200dष",
    "Chinese wide space": "日本語\u3000文",
    "French thin space": "Quoi\u202f?",
    "family of emoji": "👩\u200d👩\u200d👧",
    "heart with a selector": "❤\ufe0f",
    "flag of tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Hebrew with a mark": "שלום\u200f!",
    "soft hyphen": "Donau\u00addampf",
    "word joiner": "a\u2060b",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_sanitize_keeps_characters_of_languages(name):
    assert sanitize(LANGUAGES[name]) == LANGUAGES[name]


def test_sanitize_replaces_exactly_the_controls():
    obeyed = {
        *range(0x20),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
    }
    obeyed -= set(map(ord, "\n\t"))
    replaced = {code for code in range(0x110000) if sanitize(chr(code)) != chr(code)}
    assert replaced == obeyed


def test_sanitize_removes_escape_sequences():
    assert sanitize("é🙂\n\tx") == "é🙂\n\tx"
    assert sanitize("a\x1b[2Jb\x07\r") == "a\ufffd[2Jb\ufffd\ufffd"


def test_shell_command_is_quoted_for_a_shell():
    assert (
        shell_command("generate", "my runs/x", "Once upon")
        == "llm-scratch generate 'my runs/x' 'Once upon'"
    )


def test_shell_command_is_quoted_for_cmd_on_windows(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert (
        shell_command("generate", r"my runs\x", "Once") == r'llm-scratch generate "my runs\x" Once'
    )


def test_truncate_gives_one_line():
    assert truncate("one\ntwo", 20).plain == "one two"
    assert truncate("a" * 20, 5).plain == "aaaa…"
    assert truncate("stories:12,345", 12).plain == "stories:…", (
        "a truncated number would be another number"
    )
    assert truncate("stories:12 of", 11).plain == "stories:12…"


def shown(what, width):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(what)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def grid():
    found = table("run", "loss", "tokens")
    found.add_row("a run of mine", "2.3456", "12,345,678")
    found.add_row("another", "10.5", "9,999")
    return found


def test_table_as_a_list_says_what_the_first_number_is():
    found = table("step", "train loss", "validation loss")
    found.add_row("1,200", "2.3456", "2.5")
    lines = shown(found, 30)
    assert lines == ["step 1,200", " train loss: 2.3456", " validation loss: 2.5"]


def test_table_that_fits_is_printed_as_a_table(grid):
    assert shown(grid, 40) == [
        "run              loss      tokens",
        "a run of mine  2.3456  12,345,678",
        "another          10.5       9,999",
    ]


def test_table_folds_words_before_numbers(grid):
    assert shown(grid, 28) == [
        "run         loss      tokens",
        "a run of  2.3456  12,345,678",
        "mine",
        "another     10.5       9,999",
    ]


def test_table_that_does_not_fit_becomes_a_list(grid):
    assert shown(grid, 20) == [
        "a run of mine",
        " loss: 2.3456",
        " tokens: 12,345,678",
        "",
        "another",
        " loss: 10.5",
        " tokens: 9,999",
    ]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (30, ["run    source           loss", "first  stories:12,000  2.345"]),
        (24, ["run    source      loss", "first  stories:…  2.345"]),
        (14, ["first", " source:", "stories:12,000", " loss: 2.345"]),
    ],
)
def test_table_shortens_ellipsis_columns_first(width, lines):
    grid = table("run", "source", "loss")
    grid.columns[1].justify, grid.columns[1].overflow = "left", "ellipsis"
    grid.add_row("first", truncate("stories:12,000", 20), "2.345")
    assert shown(grid, width) == lines


@pytest.mark.parametrize("width", range(36, 100))
def test_table_breaks_no_word_while_another_column_has_space(width):
    grid = table("source", "what it is", "where", left=3)
    grid.add_row(
        "shakespeare", "40,000 lines of Shakespeare's plays, a text of any size", "on this machine"
    )
    grid.add_row(
        "shards:FOLDER", "Tokens that `llm-scratch data prepare` made: books/**/*.txt", "your files"
    )
    words = " ".join(shown(grid, width)).split()
    for word in (
        "shakespeare",
        "Shakespeare's",
        "shards:FOLDER",
        "`llm-scratch",
        "books/**/*.txt",
        "machine",
    ):
        assert word in words


def test_table_does_not_cut_a_name_next_to_a_long_text():
    grid = table("", "", left=2)
    grid.show_header = False
    grid.add_row("bits per byte", "a text that is much longer than the line has room for")
    assert shown(grid, 36) == [
        "bits per byte  a text that is much",
        "               longer than the line",
        "               has room for",
    ]


@pytest.mark.parametrize("width", range(1, 60))
def test_table_keeps_every_value_at_any_width(grid, width):
    letters = "".join(shown(grid, width)).replace(" ", "")
    for cell in ("arunofmine", "another", "2.3456", "12,345,678", "10.5", "9,999"):
        assert cell in letters or (cell == "arunofmine" and width > 20)
    assert max(map(len, shown(grid, width))) <= width


def test_table_without_header_keeps_name_and_value_on_a_line():
    grid = table("", "", left=2)
    grid.show_header = False
    grid.add_row("memory", "12.3 GiB of 16")
    grid.add_row("", "of which weights")
    assert shown(grid, 14) == ["memory 12.3", "GiB of 16", "of which", "weights"]


@pytest.mark.parametrize(("width", "first"), [(100, 88), (40, 40)])
def test_box_is_as_wide_as_the_terminal_up_to_88(width, first):
    lines = shown(boxed("some text", "title", width), width)
    assert lines[0].startswith("╭─ title ─")
    assert len(lines[0]) == first


def test_box_on_a_narrow_terminal_is_plain_text():
    assert shown(boxed("some text", "title", 20), 20) == ["title:", "some text"]
