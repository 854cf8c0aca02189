"""The pupil's copy has every question and no solution; the key answers exactly its numbers."""

from __future__ import annotations

import re

import pytest

from llm_scratch.cli import COMMANDS
from llm_scratch.errors import UserError
from llm_scratch.learn.exercise import grade
from llm_scratch.learn.handout import (
    RULES,
    SHEET,
    answer_key,
    is_pupils_copy,
    write_pupils_copy,
)
from llm_scratch.learn.progress import Progress
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed
from llm_scratch.learn.tutor import TUTOR_RULES


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "anna"
    write_pupils_copy(folder)
    return folder


def test_copy_has_every_question_and_no_solution(copy):
    assert is_pupils_copy(copy)
    sheet = (copy / SHEET).read_text(encoding="utf-8")
    assert re.findall(r"^### (\S+) ", sheet, re.M) == list(EXERCISES)
    written = "\n".join(path.read_text(encoding="utf-8") for path in copy.iterdir())
    progress = Progress(copy)
    for exercise in EXERCISES.values():
        assert exercise.text(progress.question_seed(exercise)) in sheet
        assert not any(hint in written for hint in exercise.hints), exercise.id
        body = open_sealed(exercise.id).solution.partition("def solve(")[2].partition("\n")[2]
        assert body.strip() not in written, exercise.id
        if exercise.function:
            assert exercise.start in progress.file(exercise).read_text(encoding="utf-8")
            assert not progress.verdict_of_file(exercise).right


def test_key_solves_every_exercise_of_its_copy(copy):
    key, progress = answer_key(copy), Progress(copy)
    sections = dict(re.findall(r"^### (\S+) (.*?)(?=^### |\Z)", key, re.M | re.S))
    assert list(sections) == list(EXERCISES)
    for name, exercise in EXERCISES.items():
        if exercise.function:
            namespace: dict = {}
            exec(re.search(r"```python\n(.*?)```", sections[name], re.S)[1], namespace)
            answer = namespace[exercise.function]
        else:
            answer = open_sealed(name).solve(*exercise.inputs(progress.question_seed(exercise)))
            assert f"Answer: **{answer}**" in sections[name]
        assert grade(exercise, answer, progress.question_seed(exercise)).right, name
        assert exercise.hints[2] in sections[name]


def test_two_copies_have_different_values(copy, tmp_path):
    write_pupils_copy(tmp_path / "ben")
    assert (tmp_path / "ben" / SHEET).read_text() != (copy / SHEET).read_text()


def test_copy_carries_the_tutors_rules(copy):
    assert (copy / RULES).read_text(encoding="utf-8") == TUTOR_RULES
    for command in re.findall(r"`llm-scratch ([a-z ]+?)(?: [A-Z-].*?)?`", TUTOR_RULES):
        assert command in COMMANDS, command


def test_handout_leaves_a_used_folder_unchanged(copy, tmp_path):
    before = (copy / "progress.json").read_bytes()
    with pytest.raises(UserError, match="in use already"):
        write_pupils_copy(copy)
    assert (copy / "progress.json").read_bytes() == before
    with pytest.raises(UserError, match="not a learner's folder"):
        answer_key(tmp_path)
