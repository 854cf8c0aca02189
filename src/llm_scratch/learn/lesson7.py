"""Exercises of lesson 7: the ideas of today's models. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _vector(rng: Random) -> tuple[Any, ...]:
    size = rng.randint(2, 5)
    vector = [round(rng.uniform(-4, 6), 1) or 0.5 for _ in range(size)]
    weight = [round(rng.uniform(0.3, 2.5), 1) for _ in range(size)]
    return vector, weight, rng.choice((0.1, 0.5, 1.0))


def _pair(rng: Random) -> tuple[Any, ...]:
    a, b = rng.choice((-2.0, -1.0, 1.0, 3.0)), rng.choice((-3.0, 0.5, 1.5, 2.0))
    return a, b, rng.randint(1, 9), rng.choice((0.1, 0.2, 0.3))


def _cache_sizes(rng: Random) -> tuple[Any, ...]:
    shared = rng.choice((2, 3, 4))
    heads = shared * rng.choice((3, 5, 6))
    layers = rng.choice((10, 14, 18, 22, 26))
    return layers, heads, shared, rng.choice((48, 80, 96, 112)), rng.choice((1000, 3000, 7000))


def _token_and_window(rng: Random) -> tuple[Any, ...]:
    return rng.randint(7, 40), rng.randint(3, 5)


def _mask_sizes(rng: Random) -> tuple[Any, ...]:
    window = rng.randint(2, 4)
    return window + rng.randint(2, 4), window


def _expert_scores(rng: Random) -> tuple[Any, ...]:
    n_experts = rng.randint(4, 7)
    scores = rng.sample([0.05 * n for n in range(1, 20)], n_experts)
    return [round(score, 2) for score in scores], rng.randint(2, n_experts - 2)


def _memory(rng: Random) -> tuple[Any, ...]:
    key = rng.choice(([0.6, 0.8], [0.8, -0.6], [0.0, 0.6, 0.8], [-0.6, 0.0, 0.8]))
    size = rng.randint(1, 3)
    memory = [[float(rng.randint(-4, 4) or 1) for _ in range(size)] for _ in key]
    value = [float(rng.randint(5, 9)) for _ in range(size)]
    return memory, key, value, rng.choice((0.2, 0.5, 0.7))


def _own_part(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "between W and c, a rotation would be another one for every token, so W could not move",
        "a rotation would make the latent vector longer, and the cache larger",
        "latent vectors have an odd size, and a rotation needs pairs",
        "without it, scores would depend on the distance of two tokens only",
    )


def _windows(rng: Random) -> tuple[Any, ...]:
    return (rng.sample(range(3, 14), rng.randint(3, 5)),)


EXERCISES = (
    Exercise(
        "7.1",
        "A norm without the mean",
        "implement",
        _vector,
        """
Write RMSNorm for one vector, a list of numbers: divide by the root of the mean square, and
multiply by the weights. `eps` is added to the mean square, under the root; here it is large
enough to be noticed. Return a list.
""",
        (
            "First the squares, then their mean, then the root.",
            "Nothing is taken away from the vector.",
            "Where exactly is eps added: before or after the root is taken?",
        ),
        start="""
def scaled_to_size(vector, weight, eps):
    return ...  # your code
""",
    ),
    Exercise(
        "7.2",
        "Turn a pair",
        "implement",
        _pair,
        """
Rotate the pair (a, b), two numbers of a query, for its position: counterclockwise, by the angle
position times speed, in radians. The pair (1, 0), turned by a small angle, gets a small positive
second number. Return a list of two numbers.
""",
        (
            "`math.cos` and `math.sin` take radians.",
            "The pair (1, 0) becomes (cos, sin), and the pair (0, 1) becomes (-sin, cos).",
            "Any pair is a times the first of these plus b times the second.",
        ),
        start="""
import math


def turn_pair(a, b, position, speed):
    return ...  # your code
""",
    ),
    Exercise(
        "7.3",
        "Bytes of a cache",
        "compute",
        _cache_sizes,
        """
A model has {0} layers. Each has {1} query heads, {2} heads of keys and values, and {3} numbers a
head. How many bytes does the cache of a text of {4} tokens need, in bfloat16?
""",
        (
            "What is kept for a token, in a layer: which vectors, and how many of each?",
            "Queries are not kept.",
            "A number in bfloat16 has half the bytes of a float32.",
        ),
    ),
    Exercise(
        "7.4",
        "What a window shows",
        "predict",
        _token_and_window,
        """
Tokens are counted from 0. What does this print? `mask` is the mask of a sliding window, as
`sliding_mask` in section 7.5 makes it.

  mask = sliding_mask(50, {1})
  print([j for j in range(50) if mask[{0}, j]])

Answer with a list of numbers.
""",
        (
            "Which is the last token that a token may attend to?",
            "A window counts the token itself.",
            "So how many numbers does the list have?",
        ),
    ),
    Exercise(
        "7.5",
        "A window, with a bug",
        "bug",
        _mask_sizes,
        """
A list of rows, one for each of T tokens: True where the token of the row may attend. With a window
of W, that is to the last W tokens, itself included. Find and fix the bug.
""",
        (
            "Count the True of the last row.",
            "Call it with a window of 1: to what may a token attend?",
            "How far back is the earliest token of a window?",
        ),
        start="""
def allowed_pairs(T, W):
    return [[0 <= row - column <= W for column in range(T)] for row in range(T)]
""",
    ),
    Exercise(
        "7.6",
        "Choose experts",
        "implement",
        _expert_scores,
        """
A router gave each expert a score. Choose the k experts with the highest scores. Their weights are
their scores, divided by the sum of the chosen scores. Return a list of pairs [expert, weight], the
best expert first. Experts are counted from 0.
""",
        (
            "`sorted(range(n), key=...)` sorts the numbers of the experts.",
            "With `reverse=True` the highest score comes first.",
            "What do the weights that you return add up to?",
        ),
        start="""
def choose_experts(scores, k):
    return ...  # your code
""",
    ),
    Exercise(
        "7.7",
        "One step of the delta rule",
        "implement",
        _memory,
        """
The memory is a list of rows, one for each number of a key. Read what it holds for the key, a list
as long as a value: each row times its number of the key, added up. Then add to each row its number
of the key, times beta, times the difference between the value and what was read. Return the new
memory; it does not fade.
""",
        (
            "Two passes over the rows: one reads, one writes.",
            "`zip(memory, key)` gives each row with its number of the key.",
            "After a step with beta 1 and a key of length 1, reading the key gives the value.",
        ),
        start="""
def corrected(memory, key, value, beta):
    return ...  # your code
""",
    ),
    Exercise(
        "7.8",
        "Positions in latent attention",
        "explain",
        _own_part,
        """
In latent attention, keys are W c, with c the latent vector that the cache keeps. Why are these
keys not rotated for their positions, as those of other models are, but have a small rotated part
of their own?
{0}
Answer with the letter.
""",
        (
            "What does a new token do with the latent vectors of earlier ones?",
            "Write the score with a rotation in it, and try to absorb.",
            "What would have to be the same for all earlier tokens?",
        ),
    ),
    Exercise(
        "7.9",
        "How far information reaches",
        "experiment",
        _windows,
        """
A model has one layer for each of these sliding windows: {0}. In a long text, how many tokens can
change what it predicts at the last one, that token included? Section 7.5 tries it for layers that
are all alike. Try it with a small program, or on paper with windows of 2 and 3 first.
""",
        (
            "With a single layer it is the window.",
            "A second layer attends to tokens that have read further back.",
            "How many *new* tokens does each layer add? Do not count a token twice.",
        ),
    ),
)
