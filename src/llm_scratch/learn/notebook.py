"""Exercises in a notebook: `ask("0.3")` shows, `check("0.3", answer)` grades, `hint` helps.

Each `ask` draws new numbers; `check` refers to the last ones that were shown.
Tests: tests/learn/test_notebook.py.
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from llm_scratch.learn.exercise import grade
from llm_scratch.learn.registry import find_exercise

SEED_VARIABLE = "LLM_SCRATCH_EXERCISE_SEED"
"""Environment variable that fixes the numbers, so that two builds of a notebook are equal."""
_seeds: dict[str, str] = {}
_hints_opened: dict[str, int] = {}


def ask(exercise_id: str) -> None:
    """Print an exercise, with new numbers each time."""
    exercise = find_exercise(exercise_id)
    _seeds[exercise_id] = os.environ.get(SEED_VARIABLE) or secrets.token_hex(4)
    print(f"Exercise {exercise.id}: {exercise.title}\n\n{exercise.text(_seeds[exercise_id])}")


def check(exercise_id: str, answer: Any) -> None:
    """Grade an answer: a value, or a function where one was asked for. None is no answer yet."""
    exercise = find_exercise(exercise_id)
    seed = _seeds.get(exercise_id)
    if seed is None and not exercise.function and answer is not None:
        print(f"exercise {exercise_id}: run ask({exercise_id!r}) first; it draws the numbers")
        return
    print(f"exercise {exercise_id}: {grade(exercise, answer, seed)}")


def hint(exercise_id: str) -> None:
    """Print the next hint; there are three."""
    hints = find_exercise(exercise_id).hints
    number = min(_hints_opened.get(exercise_id, 0) + 1, len(hints))
    _hints_opened[exercise_id] = number
    print(f"hint {number} of {len(hints)}: {hints[number - 1]}")
