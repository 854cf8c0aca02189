"""A learner's code is ended: an endless loop after a number of steps, `input()` at once."""

from __future__ import annotations

import os
import sys

import pytest

from llm_scratch.learn.exercise import grade
from llm_scratch.learn.hang_guard import StepLimitError, hang_guard
from llm_scratch.learn.registry import EXERCISES
from llm_scratch.learn.sealed import open_sealed

EXERCISE = EXERCISES["0.3"]
FEW_STEPS = 10_000


def one_line(table):
    while True: pass  # fmt: skip  # noqa: E701


def nothing_changes(table):
    row = 0
    while row < len(table):
        total = sum(table[row])
    return total


def list_that_grows(table):
    for row in table:
        table.append(row)
    return table


def only_for_two_rows(table):
    while len(table) == 2:
        pass
    return open_sealed("0.3").solve(table)


def catches_exceptions(table):
    while True:
        try:
            table[0][0] += 1
        except Exception:
            return table


@pytest.mark.parametrize(
    "answer",
    [one_line, nothing_changes, list_that_grows, only_for_two_rows, catches_exceptions],
    ids=lambda answer: answer.__name__,
)
def test_endless_answer_is_ended_and_diagnosed(answer):
    verdict = grade(EXERCISE, answer, 0, max_steps=FEW_STEPS)
    first = answer.__code__.co_firstlineno
    message, _, advice = verdict.message.partition("; ")
    assert not verdict.right
    assert verdict.answered
    assert message in {f"the function did not end, line {first + n}" for n in range(6)}
    assert advice.startswith("look at its loops: does a `while` change")
    assert verdict.example.startswith("  row_shares([[")
    assert verdict.example.endswith(" gives no result")


def test_output_of_an_endless_answer_is_shown():
    def talks(table):
        while True:
            print("again")

    shown = grade(EXERCISE, talks, 0, max_steps=FEW_STEPS).example.splitlines()
    assert shown[1:] == ["  prints: again"] * 5


def test_answer_that_calls_input_does_not_wait():
    verdict = grade(EXERCISE, lambda table: input("rows? "), 0)
    assert verdict.message.startswith("the function waits for the keyboard, line ")


@pytest.mark.parametrize(
    "exercise", [e for e in EXERCISES.values() if e.function], ids=lambda e: e.id
)
def test_solution_takes_far_fewer_steps_than_are_allowed(exercise):
    assert grade(exercise, open_sealed(exercise.id).solve, 0, max_steps=FEW_STEPS).right


def test_steps_of_installed_packages_are_not_counted():
    with hang_guard(max_steps=100):
        assert os.path.commonpath(["a/b"] * 1000) == os.path.join("a", "b")
    with pytest.raises(StepLimitError), hang_guard(max_steps=100):
        nothing_changes([[1]])


def test_hook_and_keyboard_are_restored_and_a_debugger_keeps_its_hook():
    keyboard, before = sys.stdin, sys.gettrace()
    sys.settrace(None)
    try:
        with pytest.raises(StepLimitError), hang_guard(max_steps=10):
            nothing_changes([[1]])
        assert (sys.gettrace(), sys.stdin) == (None, keyboard)

        def debugger(*_):
            return None

        sys.settrace(debugger)
        with hang_guard(max_steps=10):
            hook = sys.gettrace()
            open_sealed("0.3").solve([[1, 2]] * 20)
        assert hook is debugger
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)
