"""UserError carries the command line's code; `unknown` names the nearest or all."""

import pytest

from llm_scratch.errors import (
    CHECKPOINT,
    DATA,
    DIVERGED,
    INTERRUPTED,
    MAX_REASON,
    RESOURCES,
    USAGE,
    UserError,
    describe_error,
    one_line,
    unknown,
)


def test_exit_codes_are_the_documented_ones():
    assert (USAGE, DATA, CHECKPOINT, DIVERGED, RESOURCES, INTERRUPTED) == (2, 3, 4, 5, 6, 130)
    assert UserError("no").code == USAGE
    assert UserError("no", DATA).code == DATA
    assert str(UserError("no such file")) == "no such file"


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("verdct", ["verdict", "quickstart"], "unknown preset 'verdct'; did you mean 'verdict'?"),
        ("zzz", ["verdict", "quickstart"], "unknown preset 'zzz'; known: quickstart, verdict"),
        ("", ["b", "a"], "unknown preset ''; known: a, b"),
    ],
)
def test_unknown_error_names_the_nearest_or_all(name, known, message):
    error = unknown("preset", name, known)
    assert str(error) == message
    assert error.code == USAGE
    assert "\n" not in str(error)


def test_unknown_error_accepts_a_table_and_a_code():
    assert unknown("source", "x", {"stories": 1}, DATA).code == DATA


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("two\nlines\tand  blanks", "two lines and blanks"),
        ("\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain", "red and plain"),
        (
            "bell\x07, zero\0, delete\x7f, C1 \x9b, right to left \u202e",
            "bell , zero , delete , C1 , right to left",
        ),
    ],
)
def test_one_line_message_has_no_control_characters(text, line):
    assert one_line(text) == line


def test_description_of_an_error_is_one_line_cut():
    assert describe_error(ValueError("\n\n\x1b[1mfirst\x1b[0m\nsecond")) == "first second"
    assert describe_error(ValueError("first"), named=True) == "ValueError: first"
    assert describe_error(ValueError(), named=True) == describe_error(ValueError()) == "ValueError"
    assert len(describe_error(ValueError("x" * 999))) == MAX_REASON


def test_unknown_error_suggests_the_import_flag_for_extensible_tables():
    error = unknown("optimizer", "lion", ["adamw", "muon"], extensible=True)
    assert (
        str(error)
        == "unknown optimizer 'lion'; known: adamw, muon; if a Python file of yours defines it, add"
        " --import FILE"
    )
