"""`llm-scratch learn`: next, check, hint, solution, list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed

FILE = Path("exercises", "0_3_rows_that_add_up_to_1.py")
SOLVED = "def row_shares(table):\n    return [[n / sum(row) for n in row] for row in table]\n"
BY_COLUMNS = (
    "def row_shares(table):\n    s = [sum(c) for c in zip(*table)]\n    return [[n / t for n,"
    " t in zip(r, s)] for r in table]\n"
)


def test_learn_next_check_and_list_follow_the_course(llm):
    shown = llm("learn", "next").out
    assert shown.startswith("Exercise 0.1: The shape of a sum (predict")
    assert 'check:  llm-scratch learn check 0.1 "ANSWER"' in shown
    a, b, c, dim = (int(n) for n in re.search(r"\((\d+), (\d+), (\d+)\).*dim=(\d)", shown).groups())
    right = open_sealed("0.1").solve(a, b, c, dim)
    result = llm("learn", "check", "0.1", str(right))
    assert result.out == "exercise 0.1: right\nnext:   llm-scratch learn next\n"
    assert llm("learn", "next").out.startswith("Exercise 0.2: ")
    listed = llm("learn", "list").out
    assert re.search(r"^0\.1 .* solved *$", listed, re.MULTILINE)
    assert f"1 of {len(EXERCISES)} solved" in listed


def test_wrong_value_is_diagnosed_and_draws_new_values(llm):
    first = llm("learn", "next", "0.1").out
    result = llm("learn", "check", "0.1", "()")
    assert (
        "exercise 0.1: That is the shape of x.sum() without dim, which adds up everything."
        in result.out
    )
    assert result.out.endswith(
        "again, with other numbers:  llm-scratch learn next 0.1\n"
        "hint:   llm-scratch learn hint 0.1\n"
    )
    assert llm("learn", "next", "0.1").out != first


def test_code_is_checked_in_its_file(llm):
    assert str(FILE) in llm("learn", "next", "0.3").out
    assert llm("learn", "check", "0.3").out == "exercise 0.3: not solved yet\n"
    FILE.write_text(BY_COLUMNS, encoding="utf-8")
    out = llm("learn", "check", "0.3").out
    assert out.startswith("exercise 0.3: You divide by the sums of the columns.")
    assert re.search(r"^  row_shares\(\[.*\) gives \[\[", out, re.MULTILINE)
    FILE.write_text(SOLVED, encoding="utf-8")
    assert llm("learn", "check", "0.3").out.startswith("exercise 0.3: right\n")


def test_watch_checks_again_when_the_file_is_saved(llm, monkeypatch):
    llm("learn", "next", "0.3")
    edits = iter([BY_COLUMNS, None, SOLVED])

    def edit(_seconds):
        if (text := next(edits)) is not None:
            before = FILE.stat().st_mtime_ns
            FILE.write_text(text, encoding="utf-8")
            while FILE.stat().st_mtime_ns == before:  # where the file system's clock is coarse
                FILE.touch()

    monkeypatch.setattr("llm_scratch.cli.commands.learn.sleep", edit)
    lines = [
        line
        for line in llm("learn", "check", "0.3", "--watch").out.splitlines()
        if line.startswith("exercise")
    ]
    assert [line.split()[2] for line in lines] == ["not", "You", "right"]


def test_hints_open_one_by_one_and_are_kept(llm):
    for opened in (1, 2, 3, 3):
        lines = llm("learn", "hint", "0.3").out.splitlines()
        assert lines == [
            f"hint {n} of 3: {EXERCISES['0.3'].hints[n - 1]}" for n in range(1, opened + 1)
        ]


def test_hint_shows_no_question(llm):
    llm("learn", "hint", "0.1")
    assert "exercise 0.1: its numbers are not drawn yet" in llm("learn", "check", "0.1", "5").err
    llm("learn", "next", "0.1")
    assert llm("learn", "check", "0.1", "5").code == 0


def test_endless_loop_in_an_answer_is_ended(llm):
    llm("learn", "next", "0.3", "--folder", "class/anna")
    endless = "def row_shares(table):\n    while table:\n        pass\n"
    Path("class", "anna", FILE.name).write_text(endless, encoding="utf-8")
    checked = llm("learn", "check", "0.3", "--folder", "class/anna").out
    assert checked.startswith("exercise 0.3: the function did not end, line ")
    assert re.search(r"^anna .* 0 of", llm("learn", "grade", "class").out, re.MULTILINE)


def test_solution_opens_on_request_only(llm):
    namespace: dict = {}
    exec(llm("learn", "solution", "0.3").out, namespace)
    assert namespace["row_shares"]([[1, 3]]) == [[0.25, 0.75]]
    assert llm("learn", "solution", "0.2").out.startswith("def answer(")
    assert (
        llm("learn", "solution").err
        == "llm-scratch: ID is missing; name the exercise whose solution you want to see\n"
    )


def test_learn_names_the_folder_in_the_next_commands(llm):
    out = llm("learn", "next", "0.3", "--folder", "my answers").out
    assert "llm-scratch learn check 0.3 --folder 'my answers'" in out
    assert Path("my answers", FILE.name).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "0.3", "5"], "exercise 0.3: its answer is code in a file; leave ANSWER out"),
        (
            ["check", "0.1"],
            'exercise 0.1: ANSWER is missing; write llm-scratch learn check 0.1 "ANSWER"',
        ),
        (
            ["check", "0.1", "--watch"],
            "exercise 0.1: it has no file to watch; write llm-scratch learn",
        ),
        (
            ["check", "0.1", "5"],
            "exercise 0.1: its numbers are not drawn yet; run llm-scratch learn",
        ),
        (["check", "(3, 4)"], "exercise '(3, 4)': not an id such as 0.3; list the exercises with"),
        (["next", "8.8"], "unknown exercise '8.8'; did you mean"),
        (["nxt"], "unknown learn command 'nxt'; did you mean 'next'?"),
    ],
)
def test_learn_usage_errors_are_one_line(llm, words, message):
    result = llm("learn", *words)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_message_when_all_exercises_are_solved(llm):
    import json

    records = {name: {"solved": True, "attempts": 0, "hints": 0} for name in EXERCISES}
    Path("exercises").mkdir()
    Path("exercises", "progress.json").write_text(
        json.dumps({"seed": "1", "exercises": records}), encoding="utf-8"
    )
    assert "all exercises are solved; name one to see it again" in llm("learn", "next").err
    assert llm("learn", "next", "0.3").code == 0


def test_grade_reads_a_class(llm):
    for name, code in (
        ("anna", SOLVED),
        ("ben", BY_COLUMNS),
        ("cleo", "def row_shares(table) 1/0"),
    ):
        llm("learn", "next", "0.3", "--folder", f"class/{name}")
        Path("class", name, FILE.name).write_text(code, encoding="utf-8")
    llm("learn", "check", "0.1", "--folder", "class/anna", "()")
    before = {path: path.read_bytes() for path in Path("class").rglob("*") if path.is_file()}
    lines = llm("learn", "grade", "class").out.splitlines()
    assert lines[0].split() == ["learner", *(f"L{n}" for n in range(8)), "solved"]
    assert [line.split()[0] for line in lines[1:]] == ["anna", "ben", "cleo"]
    assert [re.search(r"(\d+) of", line)[1] for line in lines[1:]] == ["1", "0", "0"]
    assert {
        path: path.read_bytes() for path in Path("class").rglob("*") if path.is_file()
    } == before, "grading changes nothing"
    assert "no such folder" in llm("learn", "grade", "nowhere").err
