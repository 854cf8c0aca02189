"""Exercises of lesson 6: the recipe of a run. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _loss_and_bytes(rng: Random) -> tuple[Any, ...]:
    return round(rng.uniform(2.1, 5.9), 1), round(rng.uniform(2.1, 4.9), 1)


def _schedule(rng: Random) -> tuple[Any, ...]:
    warmup, plateau, fall = rng.randint(2, 9), rng.randint(1, 20), rng.randint(3, 20)
    total = warmup + plateau + fall
    bounds = rng.choice(((0, warmup), (warmup, total - fall), (total - fall, total)))
    return rng.randrange(*bounds), total, rng.choice((0.02, 0.5, 1.0)), warmup, fall


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


def _epochs(rng: Random) -> tuple[Any, ...]:
    batch_size = rng.randint(2, 12)
    return rng.randint(0, 9), batch_size * rng.randint(2, 9) + rng.randrange(batch_size), batch_size


def _first_gradients(rng: Random) -> tuple[Any, ...]:
    sizes = rng.sample((7.0, 3.0, 0.4, 0.02, 0.001), 3)
    signs = rng.choice(((1, 1, -1), (1, -1, 1), (-1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)))
    return rng.choice((0.1, 0.2, 0.3, 0.4)), [size * sign for size, sign in zip(sizes, signs)]


def _start_and_rate(rng: Random) -> tuple[Any, ...]:
    rate = rng.choice((0.2, 0.4, 0.5, 0.6, 0.8))
    return round(rate * (rng.randint(4, 9) + rng.choice((0.2, 0.3, 0.35, 0.65, 0.8))), 2), rate


def _three_losses(rng: Random) -> tuple[Any, ...]:
    floor = round(rng.uniform(0.4, 0.9), 2)
    now = round(floor + rng.uniform(0.05, 0.6), 2)
    return round(now + rng.uniform(1, 3), 2), now, floor


def _losses_with_spikes(rng: Random) -> tuple[Any, ...]:
    memory = rng.randint(3, 4)
    losses = [round(rng.uniform(2.5, 3.0) - 0.06 * n, 2) for n in range(memory + 14)]
    for n in rng.sample(range(memory, memory + 13), 2):
        losses[n : n + 2] = rng.choice(([6.0, 5.5], [8.0, 3.6], [1.0, 9.0], [math.nan, 6.0]))
    return losses, memory, rng.choice((1.5, 2))


def _interrupted(rng: Random) -> tuple[Any, ...]:
    gradients = [float(rng.randint(-5, 5)) or 1.0 for _ in range(rng.randint(4, 7))]
    return (
        gradients,
        rng.randint(1, len(gradients) - 1),
        rng.choice((0.1, 0.2)),
        rng.choice((0.5, 0.9)),
    )


EXERCISES = (
    Exercise(
        "6.1",
        "Bits per byte",
        "compute",
        _loss_and_bytes,
        """
A model has a loss of {0} nats a token. A token is {1} bytes long, on average. How many bits per
byte is that? Two digits are enough.
""",
        (
            "Two conversions: from nats to bits, and from a token to a byte.",
            "A nat is more than a bit: one divided by the natural logarithm of two.",
            "The surprise of a token is shared by all its bytes.",
        ),
    ),
    Exercise(
        "6.2",
        "Warm-up, plateau, fall",
        "implement",
        _schedule,
        """
Another schedule than the quickstart's. In the first `warmup` steps the rate rises evenly; step 0
already moves, and step `warmup - 1` has the full rate `peak`. Then it stays at `peak`. Over the
last `fall` steps it goes down in a straight line: step `total - fall` still has `peak`, and step
`total` would have 0.
""",
        (
            "Three cases. Which are the two steps at which one ends and another begins?",
            "In the warm-up, step 0 has one part of `warmup`, step 1 two parts, and so on.",
            "In the fall: how many steps are left until `total`? The rate is that share of `peak`.",
        ),
        start="""
def plateau_rate(step, total, peak, warmup, fall):
    return ...  # your code
""",
    ),
    Exercise(
        "6.3",
        "Clipping, with a bug",
        "bug",
        _gradients,
        """
A gradient that is longer than `largest` should be shortened to that length. Others should stay as
they are. This function does something else. Find and fix the bug.
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
                "Rows of one document have different lengths, and some positions stay empty."
                " What is gained in return?"
            ),
            "In 6.3, look at what is counted about plain windows.",
        ),
    ),
    Exercise(
        "6.5",
        "Where an epoch begins",
        "implement",
        _epochs,
        """
A run reads `batch_size` stories in each step, and `n_stories` in each epoch. A batch may hold the
last stories of one epoch and the first ones of the next. In which step is the first story of an
epoch read? Steps and epochs are counted from 0. Give a formula, without a loop.
""",
        (
            "How many stories were read before that one?",
            "Stories 0 to batch_size - 1 are read in step 0. In which step is story number n read?",
            "`//` divides and rounds down.",
        ),
        start="""
def first_step_of(epoch, n_stories, batch_size):
    return ...  # your code
""",
    ),
    Exercise(
        "6.6",
        "AdamW's first step",
        "predict",
        _first_gradients,
        """
Three parameters have the gradients {1}. By how much does each change in the very first step of
AdamW, with a learning rate of {0} and no weight decay? Answer with a list of three numbers.
""",
        (
            "Section 6.7 takes the warm-up away, and looks at such a step.",
            "In the first step, the average gradient and its typical size come from one batch.",
            "What is a number divided by its own size? And downhill means against the gradient.",
        ),
    ),
    Exercise(
        "6.7",
        "Around the goal",
        "experiment",
        _start_and_rate,
        """
Muon and AdamW move about as far as the rate says, however flat the ground is. Try it in one
dimension: w begins at {0}, and in each step it moves by {1} toward 0. After a hundred steps, how
far from 0 is it at most? Two digits after the point are enough.
""",
        (
            "A loop of a hundred steps: if w is above 0, subtract, else add. Print the last ten.",
            "It does not come to rest. Between which two positions does it move?",
            "Take the larger of the two distances.",
        ),
    ),
    Exercise(
        "6.8",
        "How much has it learned?",
        "compute",
        _three_losses,
        """
On validation stories, the untrained model has {0} bits per byte, the trained one {1}, and the
entropy floor is {2}. What percentage of what can be learned has it learned?
""",
        (
            "An untrained model has learned nothing, one at the floor everything.",
            "How long is the whole way, from the untrained model to the floor?",
            "How much of that way is done? Divide, and multiply for percent.",
        ),
    ),
    Exercise(
        "6.9",
        "A guard",
        "implement",
        _losses_with_spikes,
        """
Decide for each loss whether its step is taken: a list of True and False. A loss that is not a
number (`math.nan`) is never accepted. As long as fewer than `memory` losses have been accepted,
all others are. From then on, a loss is accepted unless it is above the mean of the last `memory`
accepted losses by more than `sigmas` times their standard deviation (`statistics.pstdev`).
""",
        (
            "Keep two lists: the decisions, and the losses that were accepted.",
            "Comparisons with nan are always False. `math.isnan` finds it.",
            "What would a spike do to mean and deviation, if it were remembered?",
        ),
        start="""
import math
import statistics


def decisions(losses, memory, sigmas):
    return ...  # your code
""",
    ),
    Exercise(
        "6.10",
        "A run that resumes, with a bug",
        "bug",
        _interrupted,
        """
This loop trains one weight with momentum. Before step `stop` the program ends, and starts again
from its checkpoint. The result should be the same, to the last digit, as without the
interruption. Find and fix the bug.
""",
        (
            "Compare with a loop without the interruption: from which step on do they differ?",
            "A checkpoint holds everything that the next step depends on.",
            "What is 0 after the interruption, and was not before?",
        ),
        start="""
def interrupted(gradients, stop, rate, keep):
    weight = velocity = 0.0
    for step, gradient in enumerate(gradients):
        if step == stop:
            checkpoint = {"weight": weight}
            weight, velocity = checkpoint["weight"], 0.0
        velocity = keep * velocity + gradient
        weight -= rate * velocity
    return weight
""",
    ),
)
