"""Exercises of lesson 0: tensors, loss, gradients, optimizers. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _sum_shape(rng: Random) -> tuple[Any, ...]:
    a, b, c = rng.sample(range(2, 30), 3)
    return a, b, c, rng.choice((0, 1))


def _product_shapes(rng: Random) -> tuple[Any, ...]:
    return tuple(rng.sample(range(2, 60), 4))


def _positive_table(rng: Random) -> tuple[Any, ...]:
    rows, columns = rng.randint(2, 4), rng.randint(2, 4)
    return ([[rng.randint(1, 9) for _ in range(columns)] for _ in range(rows)],)


def _ids(rng: Random) -> tuple[Any, ...]:
    n_symbols = rng.randint(3, 5)
    return [rng.randrange(n_symbols) for _ in range(rng.randint(4, 12))], n_symbols


def _probabilities(rng: Random) -> tuple[Any, ...]:
    return tuple(rng.sample((0.1, 0.2, 0.25, 0.4, 0.5, 0.8), 3))


def _logits(rng: Random) -> tuple[Any, ...]:
    return ([round(rng.uniform(-3, 3), 1) for _ in range(rng.randint(2, 5))],)


def _row_counts(rng: Random) -> tuple[Any, ...]:
    return (rng.sample(range(10), 4),)


def _graph(rng: Random) -> tuple[Any, ...]:
    """A computation as a list: for each number (positions of its parents, its slopes)."""
    nodes: list[tuple[list[int], list[float]]] = [([], []), ([], [])]
    for n in range(2, rng.randint(4, 7)):
        parents = [rng.randrange(n - 1), n - 1]  # each number is used by the next, so all count
        nodes.append((parents, [float(rng.randint(1, 4)) for _ in parents]))
    nodes.append(([len(nodes) - 1, len(nodes) - 1], [2.0, 3.0]))  # one number used twice
    return (nodes,)


def _slopes(rng: Random) -> tuple[Any, ...]:
    slopes = [float(rng.randint(-4, 4)) or 1.0 for _ in range(rng.randint(3, 6))]
    return round(rng.uniform(-1, 1), 1), slopes, rng.choice((0.1, 0.2)), rng.choice((0.5, 0.8, 0.9))


def _steepness(rng: Random) -> tuple[Any, ...]:
    return (rng.choice((3, 5, 6, 7, 8, 12, 16, 25)),)


def _zeroing(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "else the new gradient would be added to the old one",
        "else the parameters would be set to their gradient",
        "else backward() would not know which parameters to use",
        "it frees memory, and changes nothing else",
    )


EXERCISES = (
    Exercise(
        "0.1",
        "The shape of a sum",
        "predict",
        _sum_shape,
        """
`x` is a tensor of shape ({0}, {1}, {2}). What is the shape of `x.sum(dim={3})`?
Answer as Python writes a shape, such as (1, 2).
""",
        (
            "How many dimensions does a sum along one dimension leave?",
            "Dimensions are counted from 0: `dim=0` is the outermost.",
            "Write the shape down and strike out the dimension that is summed.",
        ),
    ),
    Exercise(
        "0.2",
        "The shape of a product",
        "predict",
        _product_shapes,
        """
`x` has shape ({0}, {1}, {2}), and `w` has shape ({2}, {3}). What is the shape of `x @ w`?
""",
        (
            "A matrix product multiplies the last dimension of `x` with the first of `w`.",
            "The inner sizes agree and disappear. All other sizes stay.",
            "`x` is a stack of matrices; each of them is multiplied by `w`.",
        ),
    ),
    Exercise(
        "0.3",
        "Rows that add up to 1",
        "implement",
        _positive_table,
        """
Divide each row of a table (a list of lists) by the sum of that row. Return the new table.
""",
        (
            "First write it for a single row.",
            "The sum belongs to the row, so compute it inside the loop over rows.",
            (
                "A list comprehension inside a list comprehension does it:"
                " for each row, for each number in it."
            ),
        ),
        start="""
def row_shares(table):
    return ...  # your code
""",
    ),
    Exercise(
        "0.4",
        "Counting pairs",
        "implement",
        _ids,
        """
Count which id follows which: return a table (a list of `n_symbols` lists) whose entry [i][j]
says how often id j came right after id i in the list `ids`.
""",
        (
            "Begin with a table of zeros. Make each row a new list.",
            "`zip(ids, ids[1:])` gives each id with the one after it.",
            "In each pair, the first id picks the row, the second one the column.",
        ),
        start="""
def count_pairs(ids, n_symbols):
    return ...  # your code
""",
    ),
    Exercise(
        "0.5",
        "Loss by hand",
        "compute",
        _probabilities,
        """
A model read three letters. It had given them the probabilities {0}, {1} and {2}.
What is its loss? Two digits after the point are enough; use a calculator.
""",
        (
            "The surprise of one letter is the negative natural logarithm of its probability.",
            "Take the surprise of each letter first, then combine the three.",
            (
                "The loss is the *mean* of the surprises. In Python:"
                " `math.log(p)` is the natural logarithm."
            ),
        ),
    ),
    Exercise(
        "0.6",
        "A softmax that is none",
        "bug",
        _logits,
        """
This softmax should turn any numbers into probabilities that add up to 1. Try it on a few lists,
then find and fix the bug.
""",
        (
            "Add up what it returns. Is it 1?",
            (
                "Which numbers must be in the sum below the fraction:"
                " those that went in, or those above the fraction?"
            ),
            "Each power is divided by the sum of all powers.",
        ),
        start="""
import math


def to_probabilities(logits):
    powers = [math.exp(number) for number in logits]
    return [power / sum(logits) for power in powers]
""",
    ),
    Exercise(
        "0.7",
        "A gradient by hand",
        "compute",
        _row_counts,
        """
A bigram model has four letters. After the letter "a" came the four letters {0} times.
The row of logits of "a" is still all zeros. The loss is the *sum* of all surprises, not the mean.
What is the gradient for these four logits? Answer with a list of four numbers.
""",
        (
            "What probability does softmax give to each of four equal logits?",
            "The gradient is: predicted minus counted.",
            'How often did "a" come in all? That many times the probability is predicted.',
        ),
    ),
    Exercise(
        "0.8",
        "Backward, with a bug",
        "bug",
        _graph,
        """
`nodes` describes a computation, in the order in which it was done. Each entry is a pair of lists:
the positions of its parents, and its slope with respect to each parent. The last entry is the
result. The function should return the slope of the result with respect to every entry.
It has one bug.
""",
        (
            (
                "Which entries get a wrong slope:"
                " those that are used once, or those used more than once?"
            ),
            "A number that is used twice moves the result in two ways.",
            "Look at what happens to a parent's slope when a second share arrives.",
        ),
        start="""
def slopes_of_result(nodes):
    grads = [0.0] * len(nodes)
    grads[-1] = 1.0
    for position in reversed(range(len(nodes))):
        parents, slopes = nodes[position]
        for parent, slope in zip(parents, slopes):
            grads[parent] = slope * grads[position]
    return grads
""",
    ),
    Exercise(
        "0.9",
        "Momentum",
        "implement",
        _slopes,
        """
Walk with momentum. A parameter starts at `start`. The gradient of step n is `slopes[n]`. In each
step: velocity = keep * velocity + slope; then the parameter moves by rate * velocity, downhill. The
velocity starts at 0. Return the parameter after each step, as a list.
""",
        (
            "Keep two variables between the steps: the parameter and the velocity.",
            "Update the velocity first, then use the new one.",
            "Downhill means: subtract.",
        ),
        start="""
def walk_with_momentum(start, slopes, rate, keep):
    return ...  # your code
""",
    ),
    Exercise(
        "0.10",
        "How fast is too fast?",
        "experiment",
        _steepness,
        """
Write a loop that walks down f(w) = {0} / 2 * w * w from w = 1 by gradient descent: the slope is
{0} * w. Try learning rates. Small ones reach 0. Above which learning rate does w grow without end?
Two digits after the point are enough.
""",
        (
            (
                "Ten steps are enough to see whether w shrinks or grows."
                " Double the rate until it grows."
            ),
            "Write down what one step does: w becomes w times some number. Which number?",
            "w shrinks as long as that number is between minus one and one.",
        ),
    ),
    Exercise(
        "0.11",
        "Why forget the gradient?",
        "explain",
        _zeroing,
        """
A training loop calls `optimizer.zero_grad()` in every step. Why?
{0}
Answer with the letter.
""",
        (
            "Look at 0.7: what does `backward` do with a slope that is already there?",
            "Try it: call `backward()` of the same loss twice and print `.grad` in between.",
            (
                "A number that is used twice gets a share from each use."
                " Across steps that is not wanted."
            ),
        ),
    ),
)
