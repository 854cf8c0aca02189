"""`ask`, `check` and `hint` in a notebook."""

from __future__ import annotations

import re

import pytest

from llm_scratch.errors import UserError
from llm_scratch.learn import notebook
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(notebook, "_seeds", {})
    monkeypatch.setattr(notebook, "_hints_opened", {})
    monkeypatch.delenv(notebook.SEED_VARIABLE, raising=False)


def test_correct_answer_to_the_shown_values_passes(capsys):
    notebook.ask("0.2")
    sizes = [int(n) for n in re.findall(r"\d+", capsys.readouterr().out.partition("shape")[2])]
    b, t, c, c_again, v = sizes
    assert c == c_again
    notebook.check("0.2", None)
    notebook.check("0.2", (b, t, c, v))
    notebook.check("0.2", (b, t, v))
    assert (
        capsys.readouterr().out
        == "exercise 0.2: not solved yet\nexercise 0.2: You kept the inner size. It is summed over,"
        " so it disappears.\nexercise 0.2: right\n"
    )


def test_exercise_values_are_new_each_time_unless_the_seed_is_fixed(capsys, monkeypatch):
    shown = set()
    for _ in range(8):
        notebook.ask("0.2")
        shown.add(capsys.readouterr().out)
    assert len(shown) > 4
    monkeypatch.setenv(notebook.SEED_VARIABLE, "0")
    notebook.ask("0.2")
    first = capsys.readouterr().out
    notebook.ask("0.2")
    assert capsys.readouterr().out == first


def test_value_without_a_question_is_not_graded(capsys):
    notebook.check("0.2", (1, 2))
    assert capsys.readouterr().out == "exercise 0.2: run ask('0.2') first; it draws the numbers\n"


def test_function_needs_no_question(capsys):
    notebook.check("0.3", open_sealed("0.3").solve)
    assert capsys.readouterr().out == "exercise 0.3: right\n"


def test_endless_function_is_ended(capsys):
    def endless(table):
        while table:
            pass

    notebook.check("0.3", endless)
    assert capsys.readouterr().out.startswith("exercise 0.3: the function did not end, line ")


def test_hints_open_one_by_one(capsys):
    for _ in range(4):
        notebook.hint("0.3")
    lines = capsys.readouterr().out.splitlines()
    hints = EXERCISES["0.3"].hints
    assert lines == [f"hint {n} of 3: {hints[n - 1]}" for n in (1, 2, 3, 3)]


def test_unknown_exercise_is_a_user_error():
    with pytest.raises(UserError, match=r"unknown exercise .9\.9.; did you mean"):
        notebook.ask("9.9")
