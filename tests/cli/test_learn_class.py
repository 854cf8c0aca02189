"""`learn handout`, `key`, `grade`: copies for a class, graded together; no solutions for pupils."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_scratch.learn.registry import EXERCISES


def test_class_copies_are_written_solved_and_graded(llm):
    made = llm("learn", "handout", "class", "anna", "ben")
    assert made.out.splitlines() == [
        str(Path("class", "anna")),
        str(Path("class", "ben")),
        f"key:    llm-scratch learn key {Path('class', 'anna')}",
        "grade:  llm-scratch learn grade class",
    ]
    key = llm("learn", "key", "class/anna").out
    answer = re.search(r"^### 0\.1 .*?Answer: \*\*(.*?)\*\*", key, re.M | re.S)[1]
    assert ": right" in llm("learn", "check", "0.1", answer, "--folder", "class/anna").out
    graded = llm("learn", "grade", "class").out.splitlines()
    assert [re.search(r"(\d+) of", line)[1] for line in graded[1:]] == ["1", "0"]


def test_pupils_copy_opens_no_solution(llm):
    llm("learn", "handout", "class", "anna")
    result = llm("learn", "solution", "0.3", "--folder", "class/anna")
    assert (result.code, result.out) == (2, "")
    assert "a pupil's copy has no solutions; ask your teacher" in result.err
    assert "llm-scratch learn hint 0.3 --folder class/anna" in result.err
    assert llm("learn", "solution", "0.3").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["handout", "class"], "NAME is missing; name at least one pupil"),
        (["handout", "class", "../anna"], "NAME '../anna': not the name of a folder"),
        (["handout", "class", ""], "NAME '': not the name of a folder"),
        (["key", "class"], "class: not a learner's folder"),
    ],
)
def test_class_usage_errors_are_one_line(llm, words, message):
    result = llm("learn", *words)
    assert result.code in (2, 3)
    assert message in result.err
    assert not Path("class").exists()


def test_class_copies_are_written_for_all_pupils_or_none(llm):
    llm("learn", "handout", "class", "anna")
    result = llm("learn", "handout", "class", "ben", "anna")
    assert "anna: in use already; name a new or empty folder" in result.err
    assert not Path("class", "ben").exists()
    assert llm("learn", "handout", "class", "ben", "ben", "--quiet").code == 0


def test_answer_key_covers_all_exercises(llm):
    llm("learn", "next", "0.1")
    assert llm("learn", "key").out.count("\n### ") == len(EXERCISES)
