"""A pupil's copy of the exercises, without solutions, and the key to it for the teacher.

    class/anna/exercises.md      every question, with Anna's numbers
    class/anna/0_3_rows...py     a starting file for each exercise whose answer is code
    class/anna/AGENTS.md         rules that make a coding agent a tutor
    class/anna/progress.json     the seed of the numbers

`llm-scratch learn grade class` grades all copies.
Tests: tests/learn/test_handout.py.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from llm_scratch.errors import DATA, UserError
from llm_scratch.learn.exercise import KINDS, Exercise
from llm_scratch.learn.progress import Progress
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed
from llm_scratch.learn.tutor import TUTOR_RULES
from llm_scratch.storage.files import atomic_write, is_new_or_empty

SHEET, RULES = "exercises.md", "AGENTS.md"
"""The questions, whose presence marks a pupil's copy; and the rules for a coding agent."""


def is_pupils_copy(folder: Path) -> bool:
    """Whether a folder is a pupil's copy, in which solutions stay sealed."""
    return (folder / SHEET).is_file()


def check_unused(folder: Path) -> None:
    """Check that a pupil's copy can be written to a folder.

    Raises:
        UserError: the folder is in use.
    """
    if not is_new_or_empty(folder):
        raise UserError(f"{folder}: in use already; name a new or empty folder", DATA)


def write_pupils_copy(folder: Path) -> None:
    """Write a pupil's copy: questions with its own numbers, starting files, rules for a tutor.

    Raises:
        UserError: the folder is in use.
    """
    check_unused(folder)
    progress = Progress(folder)
    for exercise in EXERCISES.values():
        if exercise.function:
            progress.begin(exercise)
    atomic_write(folder / RULES, TUTOR_RULES)
    atomic_write(folder / SHEET, sheet(progress))
    progress.mark_shown(*EXERCISES.values())


def sheet(progress: Progress) -> str:
    """All questions of a learner's folder, as Markdown."""
    lines = [
        "# Exercises",
        "",
        "Check an answer: `llm-scratch learn check ID --folder .`, or with a value:",
        "`llm-scratch learn check ID --folder . ANSWER`. A wrong answer brings new numbers:",
        "`llm-scratch learn next ID --folder .` shows them.",
    ]
    for lesson, exercises in groupby(EXERCISES.values(), lambda e: e.id.partition(".")[0]):
        lines += ["", f"## Lesson {lesson}"]
        for exercise in exercises:
            lines += ["", *_question(progress, exercise)]
            if exercise.function:
                lines += ["", f"Your file: `{progress.file(exercise).name}`"]
    return "\n".join(lines) + "\n"


def _question(progress: Progress, exercise: Exercise) -> list[str]:
    heading = f"### {exercise.id} {exercise.title}"
    kind = f"*{exercise.kind}: {KINDS[exercise.kind]}*"
    return [heading, "", kind, "", exercise.text(progress.question_seed(exercise))]


def answer_key(folder: Path) -> str:
    """The key to a learner's folder, as Markdown: answers, solutions, common mistakes.

    Raises:
        UserError: no learner's folder.
    """
    if not (folder / "progress.json").is_file():
        raise UserError(
            f"{folder}: not a learner's folder (no progress.json); check the path", DATA
        )
    progress = Progress(folder)
    lines = ["# Key", "", "For the teacher. Numbers change with each wrong answer of the pupil."]
    for exercise in EXERCISES.values():
        sealed = open_sealed(exercise.id)
        lines += ["", *_question(progress, exercise), ""]
        if exercise.function:
            solution = sealed.solution.replace("def solve(", f"def {exercise.function}(")
            lines += ["```python", solution.strip(), "```"]
        else:
            answer = sealed.solve(*exercise.inputs(progress.question_seed(exercise)))
            lines += [f"Answer: **{answer}**"]
        lines += ["", "Hints:", "", *(f"{n}. {hint}" for n, hint in enumerate(exercise.hints, 1))]
        lines += ["", "Common mistakes:", ""]
        lines += [f"- {' '.join((mistake.__doc__ or '').split())}" for mistake in sealed.mistakes]
    return "\n".join(lines) + "\n"
