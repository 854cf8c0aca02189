"""Tab completion in `chat`."""

from __future__ import annotations

import builtins
import os
import sys
import types

import pytest

from llm_scratch.cli.chat_commands import COMMANDS
from llm_scratch.cli.completion import completions, enable_line_editing


def at_end(line):
    """The completions of the last word of a line."""
    return completions(line, line.rfind(" ") + 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/2026-bard", "my talks"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("talk.json", "my talks/one.json", "my talks/.hidden"):
        (tmp_path / name).touch()
    return tmp_path


def test_completion_completes_commands():
    assert at_end("/re") == ["/retry"]
    assert at_end("/se") == ["/set "]
    assert {name.strip() for name in at_end("/")} == {*COMMANDS, "/bye"}


def test_completion_ignores_plain_text():
    assert (
        at_end("hello wor")
        == at_end("//re")
        == at_end("")
        == at_end("/retry x")
        == at_end("/what x")
        == []
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/set temp", ["temperature "]),
        ("/set see", ["seed "]),
        ("/probs o", ["on", "off"]),
        ("/transcript of", ["off"]),
        ("/show h", ["history"]),
    ],
)
def test_arguments_are_completed(line, found):
    assert at_end(line) == found


def test_paths_and_runs_are_completed(folder):
    assert at_end("/save ta") == ["talk.json"]
    assert at_end("/load ru") == [f"runs{os.sep}"]
    assert at_end("/load runs/") == [f"runs/2026-bard{os.sep}"]
    assert at_end("/load 2026") == ["2026-bard"]
    assert at_end(f"/load {folder}/ta") == [f"{folder}/talk.json"]
    assert at_end("/load nowhere/x") == []


def test_completion_of_a_path_with_a_space_starts_at_the_last_word(folder):
    assert at_end("/load my") == [f"my talks{os.sep}"]
    assert at_end("/load my ta") == [f"talks{os.sep}"]
    assert at_end("/load my talks/") == ["talks/one.json"]
    assert at_end("/load my talks/.") == ["talks/.hidden"]


def test_chat_input_works_without_readline(monkeypatch):
    real = builtins.__import__

    def without_readline(name, *args, **kwargs):
        if name == "readline":
            raise ImportError("no readline, as on Windows")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_readline)
    assert enable_line_editing() is False


@pytest.mark.parametrize(
    ("about", "binding", "marked"),
    [("GNU", "tab: complete", True), ("libedit", "bind ^I rl_complete", False)],
)
def test_completion_is_set_up_for_readline_and_libedit(about, binding, marked, monkeypatch):
    calls = []
    editor = types.ModuleType("readline", about)
    for name in ("set_completer", "set_completer_delims", "parse_and_bind"):
        setattr(editor, name, lambda value, name=name: calls.append((name, value)))
    editor.get_line_buffer = lambda: "/ret"
    editor.get_begidx = lambda: 0
    editor.get_endidx = lambda: 4
    monkeypatch.setitem(sys.modules, "readline", editor)
    assert enable_line_editing() is marked
    assert ("parse_and_bind", binding) in calls
    complete = dict(calls)["set_completer"]
    assert (complete("/ret", 0), complete("/ret", 1)) == ("/retry", None)
