"""An exercise of the course, and how an answer is graded: as right, or with a diagnosis.

The inputs of an exercise are drawn at random, so that an answer cannot be copied. Its solution and
its common mistakes are functions of the same inputs, kept in a sealed file (sealed.py). An answer
that behaves like a mistake on all inputs gets that mistake's diagnosis.
Tests: tests/learn/test_exercises.py, for every exercise of the registry.
"""

from __future__ import annotations

import copy
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from random import Random
from typing import Any

from llm_scratch.learn.hang_guard import (
    MAX_STEPS,
    StepLimitError,
    describe_failure,
    hang_guard,
)
from llm_scratch.learn.sealed import open_sealed

KINDS = {
    "predict": "say what the code gives, before running it",
    "compute": "work it out with pencil and paper",
    "implement": "write a function",
    "bug": "find and fix the bug",
    "experiment": "try it, and report what you see",
    "explain": "choose the reason",
}
TRIALS = 30
"""Random inputs on which a function is tried."""
TYPED_TOLERANCE, COMPUTED_TOLERANCE = 0.006, 1e-5
"""Relative (below 1: absolute) error allowed in a person's number, and in a function's float32."""
MAX_PRINTED_LINES = 5
"""Lines shown of what a function prints for the example."""
TEXT_COLUMNS = 76
"""Width of a question: two fewer than a terminal has, since a file shows it as a comment."""
_LIST_ITEM = re.compile(r" +(?:-|[a-f]\)) ")


@dataclass(frozen=True)
class Exercise:
    """An exercise without its solution.

    Attributes:
        id: lesson and number, such as "0.3".
        title: a few words.
        kind: a key of `KINDS`.
        draw: random inputs, as a tuple.
        question: the text; `{0}`, `{1}` ... are the inputs.
        hints: three, each says more than the one before.
        start: the code to begin with, for exercises whose answer is a function; else "".
    """

    id: str
    title: str
    kind: str
    draw: Callable[[Random], tuple[Any, ...]]
    question: str
    hints: tuple[str, str, str]
    start: str = ""

    @property
    def function(self) -> str:
        """The name of the function to write; "" if the answer is a value."""
        match = re.search(r"^def (\w+)", self.start, re.MULTILINE)
        return match[1] if match else ""

    def inputs(self, seed: object) -> tuple[Any, ...]:
        """The inputs that belong to a seed."""
        return self.draw(Random(f"{self.id} {seed}"))

    def text(self, seed: object) -> str:
        """The question with its inputs, in lines that fit a terminal."""
        return wrap_paragraphs(self.question.strip("\n").format(*self.inputs(seed)))


@dataclass(frozen=True)
class Verdict:
    """The grade of an answer, with a diagnosis.

    Attributes:
        right: whether it is right.
        message: the diagnosis; for a right answer, "right".
        example: inputs of a failed trial and what the answer gave for them; "" if there is none.
        answered: whether there was an answer at all.
    """

    right: bool
    message: str
    example: str = ""
    answered: bool = True

    def __str__(self) -> str:
        return f"{self.message}\n{self.example}".rstrip()


UNANSWERED = Verdict(False, "not solved yet", answered=False)


def grade(exercise: Exercise, answer: Any, seed: object, max_steps: int = MAX_STEPS) -> Verdict:
    """Grade a value, or a function.

    Args:
        exercise: the exercise.
        answer: a function for exercises with `start`, else a value; None is no answer.
        seed: of the question that was shown.
        max_steps: steps after which a call of the function is ended.
    """
    if answer is None or answer is ...:
        return UNANSWERED
    if exercise.function and not callable(answer):
        return Verdict(
            False,
            f"this exercise asks for a function, `{exercise.function}`; pass it without calling it",
        )
    if callable(answer) and not exercise.function:
        return Verdict(False, "this exercise asks for a value, and this is a function")
    sealed = open_sealed(exercise.id)
    if not exercise.function:
        inputs = [exercise.inputs(seed)]
        got = [_Outcome(answer)]
    else:
        inputs = [exercise.inputs(f"{seed} {trial}") for trial in range(TRIALS)]
        got = _outcomes(answer, inputs, max_steps)
        inputs = inputs[: len(got)]
    tolerance = COMPUTED_TOLERANCE if exercise.function else TYPED_TOLERANCE
    expected = [_outcome(sealed.solve, values) for values in inputs]
    wrong = [n for n in range(len(inputs)) if not got[n].equals(expected[n], tolerance)]
    if got[-1].endless:
        wrong = [len(got) - 1]  # whatever else is wrong, this comes first
    if not wrong:
        return Verdict(True, "right")
    message = _diagnose(sealed.mistakes, inputs, got, tolerance) or _general(got, expected, wrong)
    if message is None:
        return UNANSWERED
    return Verdict(False, message, _example(exercise, inputs, got, wrong))


@dataclass(frozen=True)
class _Outcome:
    """What a function returned, or the exception that it raised, and what it printed."""

    value: Any = None
    error: BaseException | None = None
    printed: str = ""

    @property
    def endless(self) -> bool:
        """Whether the function had to be ended."""
        return isinstance(self.error, StepLimitError)

    @property
    def result(self) -> str:
        """The value, or the name of the exception, to be shown."""
        if self.endless:
            return "no result"
        return type(self.error).__name__ if self.error else repr(_rounded(self.value))

    def equals(self, other: _Outcome, tolerance: float) -> bool:
        if self.error or other.error:
            return type(self.error) is type(other.error)
        return same(self.value, other.value, tolerance)


def _outcomes(answer: Callable[..., Any], inputs: Sequence[Any], max_steps: int) -> list[_Outcome]:
    """What an answer gives for each of the inputs, up to the first for which it does not end."""
    outcomes: list[_Outcome] = []
    for values in inputs:
        with hang_guard(max_steps):
            outcomes.append(_outcome(answer, values))
        if outcomes[-1].endless:
            break
    return outcomes


def _outcome(function: Callable[..., Any], inputs: Sequence[Any]) -> _Outcome:
    """Call a function with copies of the inputs, which it may change; keep what it prints."""
    with redirect_stdout(StringIO()) as printed:
        try:
            value = function(*copy.deepcopy(inputs))
        except (Exception, SystemExit, StepLimitError) as e:  # `exit()` must not end the grading
            return _Outcome(error=e, printed=printed.getvalue())
    return _Outcome(value, printed=printed.getvalue())


def _diagnose(
    mistakes: Sequence[Callable[..., Any]], inputs: list[Any], got: list[_Outcome], tolerance: float
) -> str | None:
    """The text of the first mistake that gives what the answer gave, on all inputs."""
    for mistake in mistakes:
        if all(got[n].equals(_outcome(mistake, inputs[n]), tolerance) for n in range(len(inputs))):
            return " ".join((mistake.__doc__ or "").split())
    return None


def _general(got: list[_Outcome], expected: list[_Outcome], wrong: list[int]) -> str | None:
    """A diagnosis that needs no knowledge of the exercise; None if there is no answer yet."""
    if all(outcome.value is ... for outcome in got):
        return None
    if all(outcome.value is None and outcome.error is None for outcome in got):
        return "the function returns None; is its `return` missing?"
    first, want = got[wrong[0]], expected[wrong[0]].value
    if first.error is not None:
        return f"the function {describe_failure(first.error, _line(first.error))}"
    if first.value is None:
        return (
            "the function returns None for some inputs; does every path through it end in a return?"
        )
    value = plain(first.value)
    if isinstance(value, (list, tuple)) != isinstance(want, (list, tuple)):
        return f"the answer is {_kind(value)}, and {_kind(want)} is expected"
    if isinstance(value, (list, tuple)) and len(value) != len(want):
        return (
            f"the answer has {len(value)} entries,"
            f" which is too {'many' if len(value) > len(want) else 'few'}"
        )
    if len(wrong) < len(got):
        return "not yet: right for some inputs and wrong for others; look for a special case"
    if len(got) > 1:
        return "not yet: work this case out by hand, and compare"
    return "not yet; work it out once more"


def _line(error: BaseException) -> str:
    """The line of the answer that an error comes from, as ", line 7"."""
    ours = error.__traceback__
    answer = ours and ours.tb_next
    return f", line {answer.tb_lineno}" if answer else ""


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        tuple: "a tuple",
        str: "a text",
        bool: "True or False",
        dict: "a dictionary",
    }
    return names.get(
        type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__
    )


def _example(exercise: Exercise, inputs: list[Any], got: list[_Outcome], wrong: list[int]) -> str:
    """The failed trial with the shortest inputs, as a call and its result."""
    if not exercise.function:
        return ""
    shown = min(wrong, key=lambda n: len(repr(inputs[n])))
    outcome = got[shown]
    printed = outcome.printed.splitlines()[:MAX_PRINTED_LINES]
    call = f"  {exercise.function}({', '.join(map(repr, inputs[shown]))}) gives {outcome.result}"
    return "\n".join([call, *(f"  prints: {line}" for line in printed)])


def _rounded(value: Any) -> Any:
    """A value with its numbers to four digits, to be read."""
    value = plain(value)
    if isinstance(value, (list, tuple)):
        entries = list(map(_rounded, value))
        return entries if isinstance(value, list) else tuple(entries)  # a named tuple, too
    return float(f"{value:.4g}") if isinstance(value, float) else value


def plain(value: Any) -> Any:
    """A value of torch or numpy as Python's own; others unchanged."""
    return value.tolist() if hasattr(value, "tolist") else value


def same(got: Any, want: Any, tolerance: float) -> bool:
    """Whether two answers are equal: numbers within a tolerance, lists entry by entry."""
    got = plain(got)
    if isinstance(want, str) or isinstance(got, str):
        return (
            isinstance(got, str) and isinstance(want, str) and got.strip().lower() == want.lower()
        )
    if isinstance(want, (list, tuple)):
        return (
            isinstance(got, (list, tuple))
            and len(got) == len(want)
            and all(same(g, w, tolerance) for g, w in zip(got, want))
        )
    if isinstance(want, dict):
        return (
            isinstance(got, dict)
            and got.keys() == want.keys()
            and all(same(got[key], want[key], tolerance) for key in want)
        )
    if isinstance(want, (int, float)) and isinstance(got, (int, float)):
        whole = isinstance(want, int) and tolerance == TYPED_TOLERANCE
        return (
            got == want if whole else math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)
        )
    return bool(got == want)


def wrap_paragraphs(text: str, columns: int = TEXT_COLUMNS) -> str:
    """Wrap the paragraphs of a text; the items of an indented list, "- " or "a) ", stay apart."""
    blocks: list[str] = []
    for line in text.splitlines():
        starts = not blocks or not line.strip() or not blocks[-1] or _LIST_ITEM.match(line)
        if starts or line.startswith(" ") != blocks[-1].startswith(" "):
            blocks.append(line.rstrip())
        else:
            blocks[-1] += f" {line.strip()}"
    return "\n".join(_wrap_block(block, columns) for block in blocks)


def _wrap_block(block: str, columns: int) -> str:
    item = _LIST_ITEM.match(block)
    indent = " " * len(item[0]) if item else ""
    return textwrap.fill(
        block, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def choices(rng: Random, *options: str) -> tuple[str]:
    """Options in random order, one a line, lettered: for exercises of the kind "explain"."""
    shuffled = rng.sample(options, len(options))
    return ("\n".join(f"  {letter}) {option}" for letter, option in zip("abcdef", shuffled)),)


def letter_of(lettered: str, words: str) -> str:
    """The letter of the option that contains `words`."""
    return next(line.strip()[0] for line in lettered.splitlines() if words in line)
