"""Exercises of lesson 3: the GPT model. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


@dataclass(frozen=True)
class Layer:
    """A layer of a toy model, whose vectors are single numbers: x -> slope * x + bias."""

    slope: int
    bias: int

    def __call__(self, x: float) -> float:
        """What the layer gives for an input."""
        return self.slope * x + self.bias


@dataclass(frozen=True)
class ToyModel:
    """Logits for each position: the likeliest next id is the sum of the ids so far, plus `shift`.

    Raises:
        ValueError: more ids than `context_length`.
    """

    vocab_size: int
    context_length: int
    shift: int

    def __call__(self, ids: list[int]) -> list[list[float]]:
        """A row of `vocab_size` logits for each position."""
        if len(ids) > self.context_length:
            raise ValueError(f"{len(ids)} ids, and the context is {self.context_length}")
        likeliest = [
            (sum(ids[:end]) + self.shift) % self.vocab_size for end in range(1, len(ids) + 1)
        ]
        return [[float(i == best) for i in range(self.vocab_size)] for best in likeliest]


def _model_sizes(rng: Random) -> tuple[Any, ...]:
    batch, T, width = rng.sample(range(2, 12), 3)
    return batch, T, rng.choice((50, 100, 260, 1000)), rng.choice((16, 32, 64)), 4 * width


def _vector_of_four(rng: Random) -> tuple[Any, ...]:
    """Four numbers with a whole mean and a whole standard deviation."""
    mean, size = rng.randint(2, 9), rng.choice((1, 2))
    pattern = rng.choice(([1, 7, -7, -1], [3, 1, 1, -5], [5, -1, -1, -3]))
    numbers = [mean + size * number for number in pattern]
    rng.shuffle(numbers)
    return (numbers,)


def _table(rng: Random) -> tuple[Any, ...]:
    rows, columns = rng.randint(2, 4), rng.randint(2, 4)
    return [
        [round(rng.uniform(-5, 5), 1) for _ in range(columns)] for _ in range(rows)
    ], rng.choice((0.1, 0.01))


def _norm_and_linear(rng: Random) -> tuple[Any, ...]:
    size = rng.randint(2, 3)
    scale = [rng.choice((0.5, 2.0, 3.0, 4.0)) for _ in range(size)]
    shift = [float(rng.randint(1, 4)) for _ in range(size)]
    matrix = [[float(rng.choice((-3, -2, 1, 2, 5))) for _ in range(size)] for _ in range(size)]
    return scale, shift, matrix, [float(rng.randint(1, 6)) for _ in range(size)]


def _numbers(rng: Random) -> tuple[Any, ...]:
    return ([round(rng.uniform(-3, 3), 1) for _ in range(rng.randint(2, 4))],)


def _width(rng: Random) -> tuple[Any, ...]:
    return (rng.randint(11, 60),)


def _factor(rng: Random) -> tuple[Any, ...]:
    return (round(rng.uniform(0.3, 0.85), 2),)


def _shortcut_reasons(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "the slope of x + layer(x) is 1 plus the slope of the layer, so a small slope does no harm",
        "a layer with a shortcut has fewer parameters, so its gradient is larger",
        "the input is normalized by the shortcut, so gradients have length 1",
        "the layer is skipped in the backward pass, so only the last one is trained",
    )


def _block(rng: Random) -> tuple[Any, ...]:
    slopes = rng.sample((2, 3, 4, 5, 6, 7), 4)
    layers = [Layer(slope, bias) for slope, bias in zip(slopes, rng.sample(range(1, 10), 4))]
    return rng.randint(1, 9), *layers


def _shape_of_a_gpt(rng: Random) -> tuple[Any, ...]:
    return (
        rng.choice((50, 100, 300)),
        rng.choice((8, 16, 32)),
        rng.choice((4, 8, 12)),
        rng.randint(1, 6),
        rng.choice((True, False)),
    )


def _prompt(rng: Random) -> tuple[Any, ...]:
    vocab_size, context = rng.randint(5, 9), rng.randint(3, 6)
    prompt = [rng.randrange(vocab_size) for _ in range(rng.randint(2, 4))]
    return ToyModel(vocab_size, context, rng.randint(1, 4)), prompt, rng.randint(3, 6), context


EXERCISES = (
    Exercise(
        "3.1",
        "The shape of the logits",
        "predict",
        _model_sizes,
        """
A GPT has a vocabulary of {2} tokens, a context of {3} tokens and an embedding size of {4}. It
reads a batch of {0} rows with {1} token ids each. What is the shape of its output?
""",
        (
            "For how many positions does the model predict the next token?",
            "Each prediction is one logit for each token that could come.",
            "The embedding size is used inside only. The last layer turns it into another size.",
        ),
    ),
    Exercise(
        "3.2",
        "Normalized by hand",
        "compute",
        _vector_of_four,
        """
A token's vector is {0}. What does layer norm make of it, before scale and shift? Leave out
epsilon. Answer with a list of four numbers; two digits after the point are enough.
""",
        (
            "First make the mean zero: subtract it from every number.",
            "The variance is the mean of the squares of what is left.",
            "Then divide by the root of the variance.",
        ),
    ),
    Exercise(
        "3.3",
        "A norm with a bug",
        "bug",
        _table,
        """
`table` has a row for each token. Layer norm should bring each *token's* numbers to mean 0 and
variance 1. This one mixes the tokens. Find and fix the bug.
""",
        (
            "Add up the first row of the result. Then add up the first column.",
            "Which numbers belong to one token: a row, or a column?",
            "`zip(*table)` exchanges rows and columns. Where is that needed here?",
        ),
        start="""
def layer_norm(table, eps):
    columns = []
    for column in zip(*table):
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        columns.append([(x - mean) / (variance + eps) ** 0.5 for x in column])
    return [list(row) for row in zip(*columns)]
""",
    ),
    Exercise(
        "3.4",
        "A norm folded away",
        "implement",
        _norm_and_linear,
        """
At the end of a layer norm, each entry n[j] of a normalized vector is multiplied by `scale[j]`, and
`shift[j]` is added. A linear layer follows: its output i is the sum of matrix[i][j] times input j
over all j, plus `bias[i]`. The two steps can be one: find the matrix and the bias of a linear layer
that reads n itself and gives the same outputs for every n. Return them as a list [matrix, bias].
""",
        (
            "Write one output out: put scale[j] n[j] + shift[j] in the place of input j.",
            "Which of the terms have n[j] in them? The others are the same for every n.",
            "Try it with n = [0, 0]: what is left of the output is the new bias.",
        ),
        start="""
def folded(scale, shift, matrix, bias):
    return ...  # your code
""",
    ),
    Exercise(
        "3.5",
        "GELU without approximation",
        "implement",
        _numbers,
        """
GELU of x is x times the chance that a draw from the bell curve falls below x. GPT-2 approximates
it by tanh. Write the exact one for a list of numbers: the chance is (1 + erf(x / root of 2)) / 2,
and Python has `math.erf`.
""",
        (
            "Write the chance for one number first. For 0 it is one half.",
            "The chance is then multiplied by the number itself.",
            "`math.sqrt` gives the root. It belongs inside the parentheses of erf.",
        ),
        start="""
import math


def exact_gelu(numbers):
    return ...  # your code
""",
    ),
    Exercise(
        "3.6",
        "How large is a feed-forward network?",
        "compute",
        _width,
        """
How many parameters does the feed-forward network of a GPT with embedding size {0} have? It has
two linear layers, both with a bias, and the middle is four times as wide.
""",
        (
            "A linear layer from n to m has a matrix of n times m, and a bias of m.",
            "The two matrices are equally large. The two biases are not.",
            "GELU has no parameters.",
        ),
    ),
    Exercise(
        "3.7",
        "Where the gradient is lost",
        "experiment",
        _factor,
        """
Without shortcuts, each layer multiplies the gradient that passes through it by some factor. Let
it be {0} in every layer, and let the gradient be 1 at the end of the model. Write a loop: through
how many layers has it passed when it is below one millionth for the first time?
""",
        (
            "Begin with 1 and multiply as long as it is too large. Count the multiplications.",
            (
                "Check the count by hand with a factor of one tenth:"
                " how many layers make one millionth?"
            ),
            "Is the layer counted in which it falls below?",
        ),
    ),
    Exercise(
        "3.8",
        "Why a shortcut helps",
        "explain",
        _shortcut_reasons,
        """
Why does a gradient reach the first of 48 layers if each has a shortcut?
{0}
Answer with the letter.
""",
        (
            "What is the slope of x + f(x) with respect to x?",
            (
                "The backward pass multiplies the slopes of all layers."
                " Which factors make a product vanish?"
            ),
            "Section 3.5 says that the gradient has a way around every layer.",
        ),
    ),
    Exercise(
        "3.9",
        "The order inside a block",
        "implement",
        _block,
        """
Write the forward pass of a transformer block, as in 3.6: normalize, attend, add; then normalize,
feed forward, add. Here a vector is a single number, and each layer is a function of one number,
so that you can follow every step. Leave out dropout.
""",
        (
            "The stream `x` is changed twice, each time by adding to it.",
            "What is added the first time is attention of the normalized stream.",
            "The second half begins with the stream as the first half left it.",
        ),
        start="""
def block_forward(x, norm1, attention, norm2, feed_forward):
    return ...  # your code
""",
    ),
    Exercise(
        "3.10",
        "Counting a GPT",
        "implement",
        _shape_of_a_gpt,
        """
How many parameters does a GPT have? Count:
  - a token table and a position table: a vector of `width` numbers for each token of the
    vocabulary, and for each position of the context;
  - in each of `n_blocks` blocks: query, key and value, each a matrix of width times width without
    a bias; the output layer of attention, with a bias; a feed-forward network, as in exercise 3.6;
    two norms, each with scale and shift;
  - a final norm; and a head from `width` to the vocabulary without a bias, which needs no
    parameters of its own if it is tied to the token table.
""",
        (
            "Write a variable for each part, and add them up at the end.",
            "A norm has two numbers for each entry of the vector.",
            "Try it: GPT-2's smallest shape, not tied, is counted in section 3.8.",
        ),
        start="""
def n_parameters(vocab_size, context_length, width, n_blocks, tied):
    return ...  # your code
""",
    ),
    Exercise(
        "3.11",
        "A loop that writes",
        "implement",
        _prompt,
        """
Continue a text greedily. `model(ids)` takes a list of ids and gives a list of logits for each
position; it stops with an error if there are more than `context_size` ids. Add the likeliest next
id `n_new` times, and return all ids, prompt included.
""",
        (
            "Which of the model's predictions is about the token that is still missing?",
            "The model may see the last `context_size` ids only; the result keeps them all.",
            "`row.index(max(row))` gives the position of the largest number in a list.",
        ),
        start="""
def continue_greedily(model, ids, n_new, context_size):
    return ...  # your code
""",
    ),
)
