"""Compare a learner's part with the package's on the same inputs: equal, or different, and how.

A difference is explained where possible: the part raises an error, gives another shape, behaves
like a known mistake on every input, or is right forward and wrong backward.
Tests: tests/own_parts/test_checks.py.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from llm_scratch.errors import one_line
from llm_scratch.learn.hang_guard import (
    MAX_STEPS,
    StepLimitError,
    describe_failure,
    hang_guard,
)
from llm_scratch.storage.user_code import is_users

RTOL, ATOL = 1e-4, 1e-5
"""Relative and absolute tolerance: float32 sums in another order stay within it."""
OUTPUT = "output"
Outcome = Mapping[str, Any]
"""What a part gave, by name: its output, and for modules the gradients."""


class PartError(Exception):
    """A part that cannot be compared; the message is its diagnosis."""


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes:
        part: its name.
        state: "unfinished" parts give no value yet.
        message: the diagnosis; "" if equal.
        where: the values that differ most, such as "output [0, 2, 5] of shape (2, 7, 12)".
        yours, expected: the two numbers there.
        largest_difference: over all inputs and values, of the outputs alone if they differ; None
            if they cannot be subtracted.
    """

    part: str
    state: Literal["equal", "different", "unfinished"]
    message: str = ""
    where: str = ""
    yours: float | None = None
    expected: float | None = None
    largest_difference: float | None = None

    @property
    def numbers(self) -> str:
        """The difference in words; "" without one."""
        if self.yours is None or self.expected is None:
            return ""
        return (
            f"{self.where}: yours {self.yours:.6g}, the package's {self.expected:.6g};"
            f" largest difference {self.largest_difference:.2g}"
        )


def compare(
    part: str,
    theirs: Callable[..., Outcome],
    ours: Callable[..., Outcome],
    cases: Sequence[tuple[Any, ...]],
    mistakes: Sequence[Callable[..., Any]] = (),
    max_steps: int = MAX_STEPS,
) -> Verdict:
    """Compare two functions on the same inputs.

    Args:
        part: the name of the part.
        theirs: the learner's; may raise anything.
        ours: the package's, with the same keys in its outcome, `OUTPUT` first.
        cases: inputs; every call gets copies.
        mistakes: functions of the same inputs that give the output of a common mistake; their
            docstrings are the diagnoses.
        max_steps: steps after which a call of theirs is ended.
    """
    wanted = [ours(*copy.deepcopy(case)) for case in cases]
    got = []
    try:
        for case in cases:
            with hang_guard(max_steps):
                got.append(theirs(*copy.deepcopy(case)))
    except PartError as e:
        return Verdict(part, "different", str(e))
    except (Exception, StepLimitError) as e:
        return Verdict(part, "different", f"it {describe_failure(e, line(e))}")
    if all(outcome[OUTPUT] is None or outcome[OUTPUT] is ... for outcome in got):
        return Verdict(part, "unfinished")
    for have, want in zip(got, wanted):
        if problem := shape_problem(have[OUTPUT], want[OUTPUT]):
            known = _known_mistake(got, cases, mistakes)
            return Verdict(part, "different", known or problem)
    differences = [
        difference(name, have[name], want[name]) for have, want in zip(got, wanted) for name in want
    ]
    outputs = [each for each in differences if each.where.startswith(OUTPUT)]
    wrong = [each for each in outputs if each.excess > 0] or differences  # before the gradients
    worst = max(wrong, key=lambda each: each.excess)
    if worst.excess <= 0:
        return Verdict(part, "equal", largest_difference=max(each.largest for each in differences))
    message = _diagnosis(got, wanted, cases, mistakes)
    largest = max(each.largest for each in wrong)
    return Verdict(part, "different", message, worst.where, worst.yours, worst.expected, largest)


@dataclass(frozen=True)
class Difference:
    """Where two values differ most, and by how much more than the tolerance allows."""

    where: str
    yours: float
    expected: float
    largest: float
    excess: float


def difference(name: str, have: Any, want: Any) -> Difference:
    """Compare two values of one shape; equal infinities and NaNs are equal."""
    have, want = as_tensor(have), as_tensor(want)
    if not want.numel():
        return Difference(name, 0.0, 0.0, 0.0, 0.0)
    same = (have == want) | (have.isnan() & want.isnan())
    apart = torch.where(same, 0.0, (have - want).abs()).nan_to_num(torch.inf, torch.inf)
    excess = apart - torch.where(same, 0.0, ATOL + RTOL * want.abs()).nan_to_num(0.0, 0.0, 0.0)
    flat = int(excess.argmax())
    position = [int(i) for i in torch.unravel_index(torch.tensor(flat), want.shape)]
    shape = tuple(want.shape)
    where = f"{name} {position} of shape {shape}" if shape else name
    values = have.flatten()[flat].item(), want.flatten()[flat].item()
    return Difference(where, *values, apart.max().item(), excess.flatten()[flat].item())


def as_tensor(value: Any) -> Tensor:
    """A number, a list of numbers or a tensor, in float64."""
    return torch.as_tensor(value, dtype=torch.float64).detach()


def shape_problem(have: Any, want: Any) -> str:
    """Why two outputs cannot be compared value by value; "" if they can."""
    try:
        shape, expected = tuple(as_tensor(have).shape), tuple(as_tensor(want).shape)
    except (TypeError, ValueError, RuntimeError):
        shown = one_line(repr(have), 60), one_line(repr(want), 60)
        return f"it gives {shown[0]}; the package's gives {shown[1]}"
    if shape == expected:
        return ""
    return f"it gives the shape {shape}; the package's gives {expected}"


def _known_mistake(
    got: Sequence[Outcome],
    cases: Sequence[tuple[Any, ...]],
    mistakes: Sequence[Callable[..., Any]],
) -> str:
    """The first mistake that gives the same outputs on all inputs; "" if there is none."""
    for mistake in mistakes:
        pairs = ((have[OUTPUT], mistake(*copy.deepcopy(case))) for have, case in zip(got, cases))
        if all(_equal(output, mistaken) for output, mistaken in pairs):
            return " ".join((mistake.__doc__ or "").split())
    return ""


def _diagnosis(
    got: Sequence[Outcome],
    wanted: Sequence[Outcome],
    cases: Sequence[tuple[Any, ...]],
    mistakes: Sequence[Callable[..., Any]],
) -> str:
    """What explains a difference, as far as it is known."""
    if known := _known_mistake(got, cases, mistakes):
        return known
    right = [_equal(have[OUTPUT], want[OUTPUT]) for have, want in zip(got, wanted)]
    if all(right):
        return (
            "its output is right and a gradient is wrong; look for detach(), .data, .item(),"
            " no_grad() or a parameter that is left out of the computation"
        )
    if any(right):
        return "it is equal for some inputs only; look for a special case"
    return "its output differs; work one value out by hand, and compare"


def _equal(have: Any, want: Any) -> bool:
    return not shape_problem(have, want) and difference("", have, want).excess <= 0


def line(error: BaseException) -> str:
    """The line of the learner's file that an error comes from, as ", line 7"; "" if unknown."""
    suffix = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        if is_users(frame.f_globals.get("__name__")):
            suffix = f", line {number}"
    return suffix
