"""Exercises of lesson 6: the recipe of a run. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _loss_and_bytes(rng: Random) -> tuple[Any, ...]:
    return round(rng.uniform(2.1, 5.9), 1), round(rng.uniform(2.1, 4.9), 1)


def _schedule(rng: Random) -> tuple[Any, ...]:
    warmup = rng.randint(2, 9)
    total = warmup + rng.randint(5, 40)
    return (
        rng.choice((rng.randrange(warmup), rng.randrange(warmup, total))),
        total,
        rng.choice((0.02, 0.5, 1.0)),
        warmup,
    )


def _gradients(rng: Random) -> tuple[Any, ...]:
    size = rng.choice((0.1, 1.0, 5.0))
    return [
        round(rng.uniform(-size, size), 2) or 0.01 for _ in range(rng.randint(2, 5))
    ], rng.choice((0.5, 1.0, 2.0))


def _documents(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "so that every row shows the beginning of a text, and no row mixes two texts",
        "so that all rows have the same number of tokens",
        "so that no text has to be shuffled",
        "so that the model sees each text only once",
    )


EXERCISES = (
    Exercise(
        "6.1",
        "Bits per byte",
        "compute",
        _loss_and_bytes,
        """
A model has a loss of {0} nats a token. A token is {1} bytes long, on average. How many bits per byte is
that? Two digits are enough.
""",
        (
            "Two conversions: from nats to bits, and from a token to a byte.",
            "A nat is more than a bit: one divided by the natural logarithm of two.",
            "The surprise of a token is shared by all its bytes.",
        ),
    ),
    Exercise(
        "6.2",
        "Warm-up and fall",
        "implement",
        _schedule,
        """
Write the schedule of the quickstart. In the first `warmup` steps the rate rises evenly; step 0 already
moves, and step `warmup - 1` has the full rate `peak`. From step `warmup` on it falls in a straight line
from `peak`, and would reach 0 at step `total`.
""",
        (
            "Two cases: before step `warmup`, and from there on.",
            "In the warm-up, step 0 has one part of `warmup`, step 1 two parts, and so on.",
            (
                "In the fall: which share of its steps is already done?"
                " The rate is the rest of `peak`."
            ),
        ),
        start="""
def learning_rate(step, total, peak, warmup):
    return ...  # your code
""",
    ),
    Exercise(
        "6.3",
        "Clipping, with a bug",
        "bug",
        _gradients,
        """
A gradient that is longer than `largest` should be shortened to that length. Others should stay as they
are. This function does something else. Find and fix the bug.
""",
        (
            "Try a very short gradient.",
            "A gradient that is short enough must not be made longer.",
            "The factor is never more than one.",
        ),
        start="""
def clip(gradient, largest):
    length = sum(g * g for g in gradient) ** 0.5
    return [g * largest / length for g in gradient]
""",
    ),
    Exercise(
        "6.4",
        "One document a row",
        "explain",
        _documents,
        """
Why does the quickstart put one document in each row of a batch?
{0}
Answer with the letter.
""",
        (
            "What does a plain window begin with, most of the time?",
            (
                "Rows of one document have different lengths, and some places stay empty."
                " What is that paid for?"
            ),
            "In 6.3, look at what is counted about plain windows.",
        ),
    ),
)
