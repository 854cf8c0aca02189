"""Numbers and texts as people read them."""

from __future__ import annotations

import pytest

from llm_scratch.cli.terminal import command, count, duration, printable, short, size


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_duration(seconds, shown):
    assert duration(seconds) == shown


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
def test_count(number, shown):
    assert count(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (950, "950 B"), (12_345, "12.1 KiB"), (1023 * 1024, "1,023 KiB"), (2**20, "1 MiB"), (3.21 * 2**30, "3.21 GiB")],
)
def test_size(number, shown):
    assert size(number) == shown


def test_printable_keeps_text_and_takes_orders_away():
    assert printable("é🙂\n\tx") == "é🙂\n\tx"
    assert printable("a\x1b[2Jb\x07\r") == "a\ufffd[2Jb\ufffd\ufffd"


def test_a_command_can_be_copied():
    assert command("generate", "my runs/x", "Once upon") == "llm-scratch generate 'my runs/x' 'Once upon'"


def test_command_is_quoted_for_cmd_on_windows(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert command("generate", r"my runs\x", "Once") == r'llm-scratch generate "my runs\x" Once'


def test_short_is_one_line():
    assert short("one\ntwo", 20).plain == "one two"
    assert short("a" * 20, 5).plain == "aaaa…"
