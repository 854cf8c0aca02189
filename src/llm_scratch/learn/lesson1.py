"""Exercises of lesson 1: text, tokens, byte-pair encoding, batches. Their solutions are sealed.

Tests: tests/learn/test_exercises.py.
"""

from __future__ import annotations

from random import Random
from typing import Any

from llm_scratch.learn.exercise import Exercise, choices

_WORDS = ("tea", "cat", "the", "sat", "mat", "ran", "a", "hen", ".")


def _words_and_vocabulary(rng: Random) -> tuple[Any, ...]:
    text = [rng.choice(_WORDS) for _ in range(rng.randint(4, 9))]
    known = rng.sample(_WORDS, rng.randint(3, 7))
    return text, {word: i for i, word in enumerate(known)}


def _window_sizes(rng: Random) -> tuple[Any, ...]:
    max_length, stride = rng.randint(2, 9), rng.randint(2, 7)
    steps = rng.randint(1, 6)
    return (
        max_length + steps * stride + rng.choice((0, 1, rng.randrange(stride))),
        max_length,
        stride,
    )


def _signs(rng: Random) -> tuple[Any, ...]:
    times = 1, rng.randint(3, 4), rng.randint(0, 2), rng.randint(2, 4), rng.randint(1, 2)
    signs = [sign for sign, n in zip(("a", "é", "π", "猫", "🐈"), times) for _ in range(n)]
    rng.shuffle(signs)
    return ("".join(signs),)


def _counted_words(rng: Random) -> tuple[Any, ...]:
    words: dict[tuple[int, ...], int] = {}
    while len(words) < rng.randint(2, 4):
        words[tuple(rng.randrange(4) for _ in range(rng.randint(2, 5)))] = rng.randint(1, 9)
    return (words,)


def _word_and_pair(rng: Random) -> tuple[Any, ...]:
    pair = rng.choice(((0, 1), (0, 0), (0, 0)))
    before, after = (tuple(rng.randrange(2) for _ in range(rng.randint(0, 4))) for _ in range(2))
    return before + pair + pair[1:] + after, pair, 2


def _ids_and_bytes(rng: Random) -> tuple[Any, ...]:
    table = [b"t", b"he", b" cat", "é".encode(), " 猫".encode()]
    return [rng.randrange(len(table)) for _ in range(rng.randint(2, 7))], table


def _text_to_cut(rng: Random) -> tuple[Any, ...]:
    length = rng.randint(2, 4)
    return (
        [rng.randrange(100) for _ in range(rng.randint(length + 2, 14))],
        length,
        rng.randint(1, length),
    )


def _embedding_sizes(rng: Random) -> tuple[Any, ...]:
    return tuple(rng.sample(range(3, 90), 4))


def _letters(rng: Random) -> tuple[Any, ...]:
    """A number whose binary form has at least three ones, so that doubling does not reach it."""
    return (rng.choice([n for n in range(19, 900) if n.bit_count() >= 3]),)


def _end_of_text(rng: Random) -> tuple[Any, ...]:
    return choices(
        rng,
        "else a stranger's text could end a document or forge a boundary",
        "else the text would become longer than the context",
        "because the special token is not in the vocabulary",
        "because encoding special tokens is slow",
    )


EXERCISES = (
    Exercise(
        "1.1",
        "How much is unknown?",
        "implement",
        _words_and_vocabulary,
        """
Which share of a text's words is not in the vocabulary? The text is a list of words; the vocabulary
is a dictionary from word to id. A word that comes twice counts twice.
""",
        (
            "`word in vocab` is True or False.",
            "Count the words that are not in it, and divide.",
            "Divide by the number of words in the text. True counts as one in a sum.",
        ),
        start="""
def share_unknown(words, vocab):
    return ...  # your code
""",
    ),
    Exercise(
        "1.2",
        "How many windows?",
        "implement",
        _window_sizes,
        """
A text has `n` tokens. Windows of `max_length` tokens are cut from it; the first begins at token 0,
each further one `stride` tokens later. Every token of a window needs the token after it as a
target. How many windows are there? Give a formula, without a loop.
""",
        (
            (
                "Which is the last position at which a window may begin? Its last target"
                " is the last token."
            ),
            "How many of the numbers 0, stride, 2 * stride ... are at most that position?",
            "`-(-a // b)` divides and rounds up.",
        ),
        start="""
def n_windows(n, max_length, stride):
    return ...  # your code
""",
    ),
    Exercise(
        "1.3",
        "Counting bytes",
        "compute",
        _signs,
        """
How many bytes does the text {0} take in UTF-8?
(a, é, π, 猫 and 🐈 may come in it. Lesson 1.5 prints the bytes of each.)
""",
        (
            "Not every character takes the same number of bytes.",
            "Plain English letters take the fewest. Emoji take the most.",
            "`list(char.encode('utf-8'))` shows the bytes of one character. Add them up.",
        ),
    ),
    Exercise(
        "1.4",
        "The most frequent pair",
        "implement",
        _counted_words,
        """
`words` is a dictionary: each key is a word as a tuple of token ids, its value says how often the
word comes. Return the pair of neighbors that comes most often. Of equally frequent pairs, return
the smallest (compared as tuples).
""",
        (
            "First count all pairs, then choose.",
            "A pair inside a word that comes five times comes five times.",
            (
                "`min` with a key that is a tuple does both rules at once:"
                " fewer is worse, then smaller is better."
            ),
        ),
        start="""
def most_frequent_pair(words):
    return ...  # your code
""",
    ),
    Exercise(
        "1.5",
        "Joining a pair",
        "implement",
        _word_and_pair,
        """
Replace every `pair` of neighbors in `word` (a tuple of ids) by the single id `new`, from left to
right. A token that has been joined cannot be joined again. Return a tuple.
""",
        (
            "Walk through the word with a position that moves by one or by two.",
            "After a join, move on by two.",
            "`word[i : i + 2] == pair` is False at the last token, so it is kept by itself.",
        ),
        start="""
def join_pair(word, pair, new):
    return ...  # your code
""",
    ),
    Exercise(
        "1.6",
        "Is a tokenizer fair?",
        "implement",
        _ids_and_bytes,
        """
A model reads and pays by the token. How many bytes does a token hold, on average? `token_bytes[i]`
are the bytes of token i.
""",
        (
            "`len(b'abc')` is the number of bytes.",
            "Add up the bytes of all tokens in the text, not of all in the vocabulary.",
            "A mean is a sum divided by a count. What is counted here?",
        ),
        start="""
def bytes_per_token(ids, token_bytes):
    return ...  # your code
""",
    ),
    Exercise(
        "1.7",
        "Targets, with a bug",
        "bug",
        _text_to_cut,
        """
Each window of inputs has a window of targets: for each input, the token after it. This function
trains a model that learns nothing but to repeat its input. Find and fix the bug.
""",
        (
            "Print one pair of inputs and targets.",
            "What should the target of an input be: itself, or its successor?",
            "The targets are a slice of the same length that begins one position later.",
        ),
        start="""
def cut_windows(ids, length, stride):
    pairs = []
    for start in range(0, len(ids) - length, stride):
        inputs = ids[start : start + length]
        targets = ids[start : start + length]
        pairs.append((inputs, targets))
    return pairs
""",
    ),
    Exercise(
        "1.8",
        "What comes out of an embedding?",
        "predict",
        _embedding_sizes,
        """
A batch of ids has shape ({0}, {1}). It goes through `nn.Embedding({2}, {3})`. What shape comes out?
""",
        (
            "An embedding is a table. What is looked up for each id?",
            (
                "The first number of `nn.Embedding` says how many rows the table has,"
                " the second how long they are."
            ),
            "Every id is replaced by a row of the table; so one dimension is added.",
        ),
    ),
    Exercise(
        "1.9",
        "Special tokens in plain text",
        "explain",
        _end_of_text,
        """
`encode` turns the text "<|endoftext|>" into the special token only where it is allowed explicitly.
Why?
{0}
Answer with the letter.
""",
        (
            "Who writes the texts that a model is trained on, or that users send?",
            "What does the special token tell a model?",
            "Think of a comment on a web page that spells the token.",
        ),
    ),
    Exercise(
        "1.10",
        "A text of one letter",
        "experiment",
        _letters,
        """
A text is the letter a, {0} times. Byte-pair encoding joins the most frequent pair of neighbors
everywhere, again and again, until the whole text is a single token. How many merges does it take?
Write a loop, or use exercises 1.4 and 1.5.
""",
        (
            "Do it by hand for seven letters. After the first merge there are four tokens.",
            "Each merge joins a pair wherever it occurs, from left to right.",
            "Of equally frequent pairs take any: the number of merges comes out the same.",
        ),
    ),
)
