"""All exercises of the course, by id.

To add one: write it in its lesson's file (lesson0.py, ...) and its solution with its common
mistakes in lessons/solutions/ID.py, then run `python lessons/seal.py`.
Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

import re

from llm_scratch.errors import UserError, unknown
from llm_scratch.learn import (
    lesson0,
    lesson1,
    lesson2,
    lesson3,
    lesson4,
    lesson4_decoding,
    lesson5,
    lesson6,
    lesson7,
)
from llm_scratch.learn.exercise import Exercise

EXERCISES: dict[str, Exercise] = {
    exercise.id: exercise
    for lesson in (
        lesson0,
        lesson1,
        lesson2,
        lesson3,
        lesson4,
        lesson4_decoding,
        lesson5,
        lesson6,
        lesson7,
    )
    for exercise in lesson.EXERCISES
}
"""id -> exercise, in the order of the course."""


def find_exercise(exercise_id: str) -> Exercise:
    """The exercise with this id.

    Raises:
        UserError: there is none; names the nearest.
    """
    if not re.fullmatch(r"\d+\.\d+", exercise_id):
        raise UserError(
            f"exercise {exercise_id!r}: not an id such as 0.3;"
            " list the exercises with `llm-scratch learn list`"
        )
    if exercise_id not in EXERCISES:
        raise unknown("exercise", exercise_id, EXERCISES)
    return EXERCISES[exercise_id]
