"""A learner's folder: progress is kept, files begin with the question, their errors are named."""

from __future__ import annotations

import json
import re

import pytest

from llm_scratch.errors import UserError
from llm_scratch.learn.progress import Progress
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed

FUNCTION, VALUE = EXERCISES["0.3"], EXERCISES["0.2"]


def test_progress_survives_a_restart(tmp_path):
    first = Progress(tmp_path / "mine")
    solve = open_sealed(VALUE.id).solve
    question = first.question_seed(VALUE)
    assert not first.grade(VALUE, (1, 2)).right
    again = Progress(tmp_path / "mine")
    assert again.record(VALUE).attempts == 1
    assert again.question_seed(VALUE) != question, "a wrong answer draws new values"
    assert again.grade(VALUE, solve(*VALUE.inputs(again.question_seed(VALUE)))).right
    last = Progress(tmp_path / "mine")
    assert (last.record(VALUE).solved, last.record(VALUE).attempts) == (True, 1)
    assert last.next_exercise().id == "0.1"


def test_missing_answer_is_not_an_attempt(tmp_path):
    progress = Progress(tmp_path)
    progress.begin(FUNCTION)
    assert not progress.grade_file(FUNCTION).answered
    assert Progress(tmp_path).record(FUNCTION).attempts == 0


def test_solved_exercise_remains_solved(tmp_path):
    progress = Progress(tmp_path)
    progress.grade(FUNCTION, open_sealed(FUNCTION.id).solve)
    progress.grade(FUNCTION, lambda table: table)
    assert Progress(tmp_path).record(FUNCTION).solved


def test_answer_file_begins_with_the_question_and_is_never_overwritten(tmp_path):
    progress = Progress(tmp_path / "new")
    path = progress.begin(FUNCTION)
    assert path.name == "0_3_rows_that_add_up_to_1.py"
    text = path.read_text(encoding="utf-8")
    assert "# Divide each row of a table" in text
    assert text.endswith("def row_shares(table):\n    return ...  # your code\n")
    path.write_text("my work", encoding="utf-8")
    assert progress.begin(FUNCTION).read_text(encoding="utf-8") == "my work"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def row_shares(table)\n", r"stops with SyntaxError: expected ':', line 1$"),
        (
            "x = 1\ny = unknown\n",
            r"stops with NameError: name 'unknown' is not defined, line 2",
        ),
        ("n = 1\nwhile n:\n    n += 1\n", r"did not end, line [23]; look at its loops: .*"),
        ("n = input()\n", r"waits for the keyboard, line 1; .*"),
        (
            "def other(table): ...\n",
            r"it has no function `row_shares`; keep the name of the one it began with",
        ),
    ],
)
def test_errors_in_an_answer_file_are_named(tmp_path, code, message):
    progress = Progress(tmp_path)
    path = progress.file(FUNCTION)
    path.write_text(code, encoding="utf-8")
    found = progress.grade_file(FUNCTION)
    assert not found.right
    assert re.match(re.escape(str(path)) + ":? " + message, found.message), found.message


def test_answer_file_in_another_encoding_is_reported(tmp_path):
    progress = Progress(tmp_path)
    progress.file(FUNCTION).write_bytes("# größer\n".encode("latin-1"))
    assert progress.grade_file(FUNCTION).message.endswith(
        ".py: not UTF-8; save the file in this encoding"
    )


def test_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(
        UserError, match=r"no such file; write it with `llm-scratch learn next 0\.3`"
    ):
        Progress(tmp_path).grade_file(FUNCTION)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"seed": "a", "seed": "b", "exercises": {}}',
        '{"seed": "a"}',
        '{"seed": "a", "exercises": {"0.1": {"solvedd": true}}}',
    ],
)
def test_damaged_progress_is_a_user_error(tmp_path, text):
    (tmp_path / "progress.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        UserError, match=r"progress\.json: not readable; move it away to start again"
    ):
        Progress(tmp_path)


@pytest.mark.parametrize("code", ["exit()", "import sys; sys.exit(3)"])
def test_answer_file_that_exits_is_a_wrong_answer(tmp_path, code):
    progress = Progress(tmp_path)
    path = progress.begin(FUNCTION)
    for text in (code, f"def {FUNCTION.function}(*values):\n    {code}\n"):
        path.write_text(text, encoding="utf-8")
        verdict = progress.grade_file(FUNCTION)
        assert not verdict.right
        assert "SystemExit" in str(verdict)


def test_error_names_the_line_of_the_answer(tmp_path):
    progress = Progress(tmp_path)
    path = progress.begin(FUNCTION)
    path.write_text(
        f"import statistics\n\n\ndef {FUNCTION.function}(*values):\n    return"
        " statistics.mean([])\n",
        encoding="utf-8",
    )
    assert "line 5" in str(progress.grade_file(FUNCTION))


def test_progress_file_is_plain(tmp_path):
    progress = Progress(tmp_path)
    progress.grade(VALUE, "x")
    data = json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))
    assert data["exercises"][VALUE.id] == {
        "shown": False,
        "solved": False,
        "attempts": 1,
        "hints": 0,
    }
