"""`--quiet`: results, warnings and errors, and nothing else."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from llm_scratch.cli.output import output_mode
from llm_scratch.cli.terminal import console, print_note, print_warning
from llm_scratch.storage import download


def test_train_prints_nothing(llm, tiny, tmp_path):
    result = llm(*tiny, "--out", tmp_path / "run", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert re.search(r"(held-out|validation) loss \d", (tmp_path / "run" / "log.txt").read_text())


def test_train_prints_warnings_and_errors_on_stderr(llm, tiny, tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise OSError("no space for it")

    monkeypatch.setattr("llm_scratch.cli.commands.plan.compare_with_plan", fail)
    result = llm(*tiny, "--out", tmp_path / "run", "--quiet")
    assert (result.code, result.out) == (0, "")
    assert re.fullmatch(
        r"llm-scratch: warning: plan not compared: .*no space for it.*\n", result.err
    )
    result = llm(*tiny, "--out", tmp_path / "run", "--quiet", "--train.lr", "0.5")
    assert (result.code > 0, result.out, result.err.count("\n")) == (True, "", 1)


def test_warnings_of_a_run_reach_stderr(llm, capsys):
    from llm_scratch.cli.progress import ProgressDisplay

    with output_mode(as_json=False, quiet=True):
        screen = console()
        screen.quiet = True
        ProgressDisplay(screen).warn("step 3 skipped")
        ProgressDisplay(screen).note("saved")
    assert capsys.readouterr() == ("", "llm-scratch: warning: step 3 skipped\n")


@pytest.mark.parametrize(
    ("words", "result", "hint"),
    [
        ("generate {run} the --max-tokens 3 --seed 1", r"the", "tokens/s"),
        ("runs show {run}", r"^run ", "llm-scratch generate"),
        ("runs diagnose {run}", r"initial loss", "the curve:"),
        ("quantize {run} --out new", r"written: new", "next:"),
        (
            "tokenizer train file:{text} --vocab-size 260 --out t.json",
            r"written to t.json",
            "try it:",
        ),
        ("import {run} --out new", r"new: 4,160 parameters", "next"),
        (
            "data prepare {text} --out new --tokenizer chars --workers 1",
            r"new: [\d,]+ tokens",
            "train on it",
        ),
    ],
)
def test_quiet_keeps_results_and_removes_hints(llm, trained, text_file, words, result, hint):
    line = [word.format(run=trained, text=text_file) for word in words.split()]
    line = [word if word != "new" else "new quiet" for word in line]
    quiet = llm(*line, "--quiet")
    loud = llm(*[word if word != "new quiet" else "new loud" for word in line])
    assert (quiet.code, loud.code) == (0, 0), quiet.err
    result = result.replace("new", "new quiet")
    assert re.search(result, quiet.out, re.M)
    assert hint in loud.out + loud.err
    assert hint not in quiet.out + quiet.err


def test_chat_prints_answers_only(llm, trained, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("the\n"))
    result = llm("chat", trained, "--max-tokens", 4, "--seed", 1, "--quiet")
    assert result.code == 0
    assert result.err == ""
    assert "context of" not in result.out


def test_status_lines_notes_and_downloads_are_silent(capsys):
    with output_mode(as_json=False, quiet=True):
        screen = console()
        with screen.status("reading …") as status:
            status.update("still reading …")
            print("the result")
        print_note("a hint", screen)
        print_note("a hint")
        print_warning("odd", screen)
        assert not download.SHOW_PROGRESS
        with download._progress("file") as show:
            show(1, 2)
    assert capsys.readouterr() == ("the result\n", "llm-scratch: warning: odd\n")
    assert download.SHOW_PROGRESS
    assert type(console()) is Console
