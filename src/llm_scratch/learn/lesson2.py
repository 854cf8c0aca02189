"""Exercises of lesson 2: attention. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _vectors(rng: Random) -> tuple[Any, ...]:
    while True:
        query, key = ([rng.choice((-3, -2, -1, 1, 2, 3)) for _ in range(4)] for _ in range(2))
        products = [q * k for q, k in zip(query, key)]
        if min(products) < 0 and sum(products) not in (0, sum(query) * sum(key)):
            return query, key


def _shares(rng: Random) -> list[float]:
    raw = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randint(2, 4))]
    raw[rng.randrange(len(raw))] = 4
    return [number / sum(raw) for number in raw]


def _weight_table(rng: Random) -> tuple[Any, ...]:
    return ([_shares(rng) for _ in range(rng.randint(1, 3))],)


def _window(rng: Random) -> tuple[Any, ...]:
    T = rng.randint(3, 7)
    return T, rng.randint(1, T - 1)


def _layer_sizes(rng: Random) -> tuple[Any, ...]:
    heads = rng.choice((2, 3, 4, 6))
    return rng.randint(10, 60), heads * rng.randint(4, 12), heads


def _lookup(rng: Random) -> tuple[Any, ...]:
    T, D = rng.randint(2, 4), rng.randint(2, 4)

    def vector() -> list[float]:
        return [round(rng.uniform(-2, 2), 1) for _ in range(D)]

    return vector(), [vector() for _ in range(T)], [vector() for _ in range(T)]


def _score_table(rng: Random) -> tuple[Any, ...]:
    T = rng.randint(2, 4)
    return ([[round(rng.uniform(-2, 2), 1) for _ in range(T)] for _ in range(T)],)


def _view_sizes(rng: Random) -> tuple[Any, ...]:
    B, T, H, D = rng.sample(range(2, 13), 4)
    return B, T, H * D, H, D


def _vector_and_heads(rng: Random) -> tuple[Any, ...]:
    heads, size = rng.choice(((2, 3), (3, 2), (2, 4), (3, 4), (4, 3)))
    return [rng.randint(0, 99) for _ in range(heads * size)], heads


def _length(rng: Random) -> tuple[Any, ...]:
    return (rng.choice((16, 36, 64, 100, 144, 256, 400)),)


def _changed(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "only the output of the last token: nothing before it can see it",
        "all outputs: every token looks at every other",
        "all outputs but the last: a token does not look at itself",
        "none: the mask hides the last token",
    )


EXERCISES = (
    Exercise(
        "2.1",
        "A score by hand",
        "compute",
        _vectors,
        """
A query is {0}, a key is {1}. What is their score, as it goes into softmax?
(Scaled, as in 2.3. Two digits are enough.)
""",
        (
            "A score begins with a dot product: multiply number by number, and add up.",
            "Then it is divided by a root. The root of what?",
            "D is the length of the key, so here the root of four.",
        ),
    ),
    Exercise(
        "2.2",
        "A short memory",
        "implement",
        _window,
        """
Some models let a token look back only `window` positions, itself included, to save work on long
texts. Make the mask: a table of T rows and T columns, True where looking is *forbidden*. Row: the
token that looks. Column: the token looked at.
""",
        (
            "Two things are forbidden: the future, and what is too long ago.",
            "With row i and column j: the future is j > i.",
            "A window of one allows only j equal to i. So what does a window of `window` allow?",
        ),
        start="""
def window_mask(T, window):
    return ...  # your code
""",
    ),
    Exercise(
        "2.3",
        "How many does it look at?",
        "implement",
        _weight_table,
        """
A row of weights [0.5, 0.5, 0] looks at two tokens, [1, 0, 0] at one. In between, e to the power of
the entropy counts them softly. The entropy of a row is the sum of -w * ln(w) over its weights; a
weight of 0 adds nothing. Return this number for each row of a table.
""",
        (
            "Do it for one row first. `math.log` is the natural logarithm.",
            "`math.log(0)` is an error, so leave out weights of 0.",
            "The last step is `math.exp` of the sum.",
        ),
        start="""
import math


def looked_at(weights):
    return ...  # your code
""",
    ),
    Exercise(
        "2.4",
        "How large is a layer?",
        "compute",
        _layer_sizes,
        """
How many parameters does `MultiHeadAttention(d_in={0}, d_out={1}, num_heads={2}, qkv_bias=True)`
have? `W_query`, `W_key` and `W_value` go from d_in to d_out and have a bias; `out_proj` goes from
d_out to d_out and has one, too.
""",
        (
            "A linear layer from n to m has a matrix of n times m, and a bias of m.",
            "There are four linear layers. Three are alike.",
            "Does the number of heads change the size of a matrix, or only how its result is cut?",
        ),
    ),
    Exercise(
        "2.5",
        "Attention for one token",
        "implement",
        _lookup,
        """
Write attention for a single query: compare the query with every key (scaled dot product), make
weights with softmax, and return the mixture of the values: a list as long as one value.
""",
        (
            "Three steps: scores, weights, mixture. Write each as a list.",
            "Divide each score by the root of the length of a key, before softmax.",
            "Entry i of the mixture: add up weight times entry i of the value, over all tokens.",
        ),
        start="""
import math


def attend_once(query, keys, values):
    return ...  # your code
""",
    ),
    Exercise(
        "2.6",
        "A mask in the wrong place",
        "bug",
        _score_table,
        """
This function should give causal attention weights: no token looks ahead, and every row adds up
to 1. Try it, then find and fix the bug.
""",
        (
            "Add up each row of the result.",
            "Among which tokens does softmax share the weights, at the moment?",
            (
                "Leave out the future *before* softmax:"
                " only entries up to the diagonal take part in the sum."
            ),
        ),
        start="""
import math


def causal_weights(scores):
    table = []
    for i, row in enumerate(scores):
        powers = [math.exp(score) for score in row]
        weights = [power / sum(powers) for power in powers]
        table.append([weight if j <= i else 0.0 for j, weight in enumerate(weights)])
    return table
""",
    ),
    Exercise(
        "2.7",
        "Cut into heads",
        "predict",
        _view_sizes,
        """
`queries` has shape ({0}, {1}, {2}). What is the shape of
`queries.view({0}, {1}, {3}, {4}).transpose(1, 2)`?
""",
        (
            "`view` only cuts the last dimension in two.",
            "`transpose(1, 2)` exchanges two dimensions. Count from 0.",
            "After `view`, dimension 1 is positions and dimension 2 is heads.",
        ),
    ),
    Exercise(
        "2.8",
        "Heads by hand",
        "implement",
        _vector_and_heads,
        """
Cut one token's vector (a list) into `n_heads` equal parts, as multi-head attention does: the first
head gets the first part. Return a list of lists.
""",
        (
            "How long is each part?",
            "Part h begins at h times the length of a part.",
            "A slice: `vector[begin : begin + size]`.",
        ),
        start="""
def split_heads(vector, n_heads):
    return ...  # your code
""",
    ),
    Exercise(
        "2.9",
        "Why the root?",
        "experiment",
        _length,
        """
Draw two lists of {0} random numbers, each -1 or 1 with equal chance, and take their dot product. Do
it a few thousand times. What is the standard deviation of the results? Give the exact value that
you suspect.
""",
        (
            (
                "`statistics.pstdev(results)` gives the standard deviation;"
                " `random.choice((-1, 1))` a number."
            ),
            "Try other lengths: four times the length gives how many times the deviation?",
            "Section 2.3 says how the spread of such a sum grows.",
        ),
    ),
    Exercise(
        "2.10",
        "What does the last token change?",
        "explain",
        _changed,
        """
A causal attention layer reads six tokens. The last one is replaced by another. Which outputs
change?
{0}
Answer with the letter.
""",
        (
            "Draw the mask: which rows have a weight above zero in the last column?",
            "A token looks back and at itself.",
            "Section 2.5 does this experiment. What does it print?",
        ),
    ),
)
