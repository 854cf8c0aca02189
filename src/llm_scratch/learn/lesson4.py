"""Exercises of lesson 4 on loss and training; those on decoding: lesson4_decoding.py.

Their solutions are sealed.
Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices


def _vocabulary_size(rng: Random) -> tuple[Any, ...]:
    return (rng.choice((256, 300, 512, 1000, 2000, 5000, 8000, 16000, 32000, 50257, 100000)),)


def _given_probabilities(rng: Random) -> tuple[Any, ...]:
    return tuple(rng.sample((0.02, 0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 0.8), 3))


def _logits_and_target(rng: Random) -> tuple[Any, ...]:
    size = rng.choice((3.0, 2000.0))
    logits = [round(rng.uniform(-size, size), 1) for _ in range(rng.randint(3, 5))]
    return logits, rng.randrange(len(logits))


def _batch_losses(rng: Random) -> tuple[Any, ...]:
    full = rng.randint(6, 20)
    sizes = [full] * rng.randint(1, 4) + [rng.randint(1, full - 1)]
    return ([(round(rng.uniform(2, 9), 1), size) for size in sizes],)


def _micro_batches(rng: Random) -> tuple[Any, ...]:
    sizes = rng.sample(range(1, 6), rng.randint(2, 3))
    return ([[float(rng.randint(-9, 9)) for _ in range(size)] for size in sizes],)


def _rising_validation(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "it memorizes: the training text gets likelier, and other text does not",
        "the learning rate is too small, so the weights hardly change",
        "the validation text is longer, so its loss adds up to more",
        "dropout is on while the training loss is measured, and off for the other",
    )


def _loss_history(rng: Random) -> tuple[Any, ...]:
    losses = [round(rng.uniform(6, 9), 2)]
    for _ in range(rng.randint(2, 9)):
        losses.append(round(losses[-1] + rng.uniform(-0.6, 0.4), 2))
    return losses, rng.randint(1, 3)


def _two_tokenizers(rng: Random) -> tuple[Any, ...]:
    few = rng.randint(200, 400)
    return round(rng.uniform(2, 4), 1), few, few * rng.choice((2, 3, 4)) + rng.randint(1, 99)


EXERCISES = (
    Exercise(
        "4.1",
        "The first loss",
        "predict",
        _vocabulary_size,
        """
A model with a vocabulary of {0} tokens has just been created, and spreads its probability about
evenly over all of them. What loss do you expect, in nats? Two digits after the point are enough.
""",
        (
            "Which probability does each token get?",
            "The loss is the mean surprise, and here every token is equally surprising.",
            (
                "Section 4.2 does this for 50257 tokens."
                " In Python, `math.log` is the natural logarithm."
            ),
        ),
    ),
    Exercise(
        "4.2",
        "Perplexity by hand",
        "compute",
        _given_probabilities,
        """
A model gave the probabilities {0}, {1} and {2} to the three tokens that came. What is its
perplexity? Two digits after the point are enough; use a calculator.
""",
        (
            "First the loss: the mean of the three surprises.",
            "The loss is in nats. Perplexity turns it back into a count of tokens.",
            "e to the power of the loss. In Python: `math.exp`.",
        ),
    ),
    Exercise(
        "4.3",
        "A loss that overflows",
        "bug",
        _logits_and_target,
        """
This function gives the surprise of the token `target`, from a list of logits. It is right on
paper, but `math.exp(900)` is too large for the computer. Find and fix the bug. Subtracting a
number from all logits changes no probability.
""",
        (
            "Which number must be subtracted so that the largest power is 1?",
            "`math.log(0)` is an error, too: a very unlikely token has a power that rounds to 0.",
            (
                "The logarithm of a quotient is a difference of logarithms,"
                " and one of them undoes the power."
            ),
        ),
        start="""
import math


def surprise_of(logits, target):
    powers = [math.exp(logit) for logit in logits]
    return -math.log(powers[target] / sum(powers))
""",
    ),
    Exercise(
        "4.4",
        "The mean of the means",
        "implement",
        _batch_losses,
        """
The validation loss is measured batch by batch, and the last batch is shorter. `batches` is a list
of pairs: the mean loss of a batch, and how many tokens it has. What is the mean loss of a token?
""",
        (
            "Two batches: loss 2 for 9 tokens, loss 8 for 1 token. Which mean is fair?",
            "From the mean and the number of tokens follows the sum of a batch's losses.",
            "Add up all losses, add up all tokens, and divide.",
        ),
        start="""
def mean_loss(batches):
    return ...  # your code
""",
    ),
    Exercise(
        "4.5",
        "A batch in parts",
        "bug",
        _micro_batches,
        """
A large batch does not fit into memory, so it is cut into micro-batches, and their gradients are
accumulated before the optimizer's step. Each micro-batch is a list with the gradient of each of
its examples; here a gradient is one number. The result should be what the whole batch would have
given at once: the mean over all examples. Find and fix the bug.
""",
        (
            "Try it with one micro-batch, then with the same examples in two.",
            "`backward()` adds to the gradient. Who divides, and by what?",
            "Micro-batches may be of different sizes; each example counts the same.",
        ),
        start="""
def accumulated_gradient(micro_batches):
    gradient = 0.0
    for examples in micro_batches:
        gradient += sum(examples) / len(examples)
    return gradient
""",
    ),
    Exercise(
        "4.6",
        "One falls, the other rises",
        "explain",
        _rising_validation,
        """
From some step on, a model's training loss still falls, and its validation loss rises. Why?
{0}
Answer with the letter.
""",
        (
            "What does a model have to do to predict one short text perfectly?",
            "Section 4.4 counts how often the first guess is right, on both texts.",
            "How would it write about something that is not in its training text?",
        ),
    ),
    Exercise(
        "4.7",
        "When to stop",
        "implement",
        _loss_history,
        """
Early stopping: the validation loss is measured now and then. Training stops at the first
evaluation at which the best loss so far is `patience` evaluations old. Return the number of that
evaluation, counted from 0; if it never comes to this, that of the last one.
""",
        (
            "Walk through the losses, and keep the position of the best one so far.",
            "Only a loss that is *lower* than the best is a new best.",
            "At each position: how far behind is the best one?",
        ),
        start="""
def stop_at(val_losses, patience):
    return ...  # your code
""",
    ),
    Exercise(
        "4.8",
        "Two tokenizers, one text",
        "compute",
        _two_tokenizers,
        """
Model A has a loss of {0} nats a token, and its tokenizer cuts a text into {1} tokens. Model B's
tokenizer cuts the same text into {2} tokens. At which loss a token does B predict the text as
well as A? Two digits after the point are enough.
""",
        (
            "Bits per byte are equal if the surprise of the whole text is equal.",
            "How surprised is A by the whole text? Its loss is the surprise of one token.",
            "B's tokens are shorter, so each should surprise it less.",
        ),
    ),
)
