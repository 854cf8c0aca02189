"""Exercises of lesson 4 on decoding: temperature, top-k, top-p, cache. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise


def _logits_and_temperature(rng: Random) -> tuple[Any, ...]:
    logits = rng.sample([n / 2 for n in range(-6, 7)], rng.randint(2, 4))
    return logits, rng.choice((0, 0.5, 0.8, 1.5, 2.0))


def _two_logits(rng: Random) -> tuple[Any, ...]:
    low = round(rng.uniform(0, 2), 1)
    return round(low + rng.uniform(1.2, 6), 1), low, rng.choice((60, 70, 75, 80, 90))


def _logits_and_k(rng: Random) -> tuple[Any, ...]:
    logits = [float(rng.randint(-4, 4)) for _ in range(rng.randint(3, 6))]
    return logits, rng.randint(1, 7)


def _probabilities_and_p(rng: Random) -> tuple[Any, ...]:
    """Distinct probabilities, and a p that lies halfway between two of their sums."""
    shares = rng.sample(range(1, 13), rng.randint(3, 5))
    probabilities = [share / sum(shares) for share in shares]
    sums = [0.0, *accumulate(sorted(probabilities, reverse=True))]
    n = rng.randrange(len(shares))
    return probabilities, round((sums[n] + sums[n + 1]) / 2, 4)


def _prompt_and_new(rng: Random) -> tuple[Any, ...]:
    return rng.randint(5, 40), rng.randint(6, 30)


def _cache(rng: Random) -> tuple[Any, ...]:
    context, length = rng.randint(2, 4), rng.randint(0, 4)
    values = [float(rng.randint(0, 99)) for _ in range(2 * (length + 1))]
    keys, values = values[: length + 1], values[length + 1 :]
    n = min(length, context)
    return keys[:n], values[:n], keys[-1], values[-1], context


EXERCISES = (
    Exercise(
        "4.9",
        "Temperature",
        "implement",
        _logits_and_temperature,
        """
Turn logits into the probabilities with which the next token is drawn. The logits are divided by
the temperature before softmax. Temperature 0 means greedy: the largest logit gets all of it.
""",
        (
            "Division by 0 is an error, so treat temperature 0 first.",
            "Greedy decoding is a distribution, too: one entry has everything.",
            "For all other temperatures: divide each logit, then softmax as always.",
        ),
        start="""
import math


def probabilities(logits, temperature):
    return ...  # your code
""",
    ),
    Exercise(
        "4.10",
        "A temperature to order",
        "experiment",
        _two_logits,
        """
A vocabulary of two tokens has the logits {0} and {1}. Try temperatures: at which one does the
first token get {2} percent of the probability? Two digits after the point are enough.
""",
        (
            (
                "Write a function that gives the first token's probability at a temperature,"
                " and try some."
            ),
            "Too likely? Then the temperature is too low. Halve the interval until it is small.",
            "On paper: the quotient of the two probabilities is a power of e. Of what?",
        ),
    ),
    Exercise(
        "4.11",
        "Top-k",
        "implement",
        _logits_and_k,
        """
Keep the `k` largest logits, and replace the others by minus infinity, `-math.inf`. Logits that
are equal to the smallest one that is kept are kept, too. `k` may exceed the size of the
vocabulary. Return the list in its old order.
""",
        (
            "Which logit is the smallest one that is kept? Sort a copy to find it.",
            "Compare each logit with it. Those below are replaced.",
            "If `k` is too large, all are kept: `min(k, len(logits))`.",
        ),
        start="""
import math


def keep_top_k(logits, k):
    return ...  # your code
""",
    ),
    Exercise(
        "4.12",
        "Top-p",
        "implement",
        _probabilities_and_p,
        """
Take tokens from the likeliest downward until together they reach `p`: the one that reaches it is
the last one that is kept. The others get probability 0, and those that are kept are divided by
their sum. Return the probabilities in their old order.
""",
        (
            (
                "`sorted(range(len(probabilities)),"
                " key=...)` gives positions in the order that you want."
            ),
            "Stop after adding a token, not before it. So at least one is kept.",
            (
                "At the end, a new list:"
                " each kept probability by the sum of the kept ones, zero elsewhere."
            ),
        ),
        start="""
def keep_top_p(probabilities, p):
    return ...  # your code
""",
    ),
    Exercise(
        "4.13",
        "What a cache saves",
        "compute",
        _prompt_and_new,
        """
A prompt has {0} tokens, and {1} new ones are generated *without* a cache: the whole text goes
through the model for each new token. How many tokens go through the model in all? A token that
goes through it twice counts twice.
""",
        (
            "How many tokens go through the model for the first new one? How many for the second?",
            "The last new token is never read again.",
            (
                "A loop that adds up the lengths does it;"
                " so does a formula for the sum of equal steps."
            ),
        ),
    ),
    Exercise(
        "4.14",
        "One more in the cache",
        "implement",
        _cache,
        """
A key/value cache is two lists, oldest first. Append the key and the value of a new token; here
each is a single number. The model sees at most `context_length` tokens, so drop the oldest ones
if there are more. Return both lists, keys first.
""",
        (
            "First append, then look at the length.",
            (
                "A key and its value belong together:"
                " what is dropped of one list is dropped of the other."
            ),
            "A slice with a negative start keeps the end of a list.",
        ),
        start="""
def append_to_cache(keys, values, new_key, new_value, context_length):
    return ...  # your code
""",
    ),
)
