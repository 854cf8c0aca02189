"""Synthetic children's stories from a grammar whose entropy is known exactly.

`generate_story(seed)` generates a story, `parse(text)` recovers its random choices, and
`bits(text)` is its information content, a lower bound on any model's loss. A `Probe` marks a
position where a skill decides the next word: recall a name, match a pronoun, remember an object and
its place, count, reverse an order. The engine is `story_grammar.py`; sentences are in
`story_sentences.py`, shapes in `story_shapes.py`, words in `story_words.py`.
Tests: tests/data/test_stories.py.
"""

from __future__ import annotations

import math
import random
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice

from llm_scratch.data.story_grammar import (
    Pick,
    Pieces,
    StoryWriter,
    compile_pattern,
    expected_bits,
    match,
    without_an,
)
from llm_scratch.data.story_sentences import BEATS
from llm_scratch.data.story_shapes import SCENES, STORY_SHAPES

HELD_OUT = 1_000_000_000  # first seed that is never used for training
SHAPES: tuple[str, ...] = tuple(STORY_SHAPES)
SKILLS: tuple[str, ...] = ("name", "pronoun", "object", "count", "order")


@dataclass(frozen=True)
class Probe:
    """A position in a story where a skill decides the next word."""

    skill: str  # one of SKILLS
    prompt: str  # the story up to here, without a space at its end
    answer: str  # the right continuation, with its leading space if any, for example " Lily"
    others: tuple[str, ...]  # wrong answers of the same kind; chance is 1 / (1 + len(others))


@dataclass(frozen=True)
class Story:
    """A generated story, the choices behind it, and its probes."""

    text: str  # sentences with single spaces, no newline at the end
    bits: float  # -log2 of the story's probability
    choices: tuple[int, ...]
    probabilities: tuple[float, ...]  # of each choice; bits = -sum(log2(p))
    shape: str
    probes: tuple[Probe, ...]


def _beats(plan: str) -> Pieces:
    """Compile "beat beat? beat": one sentence a beat; one with "?" is in half of the stories."""
    pieces: list[str | Pick] = []
    for beat in plan.split():
        patterns = {**BEATS, **SCENES}[beat.rstrip("?")]
        sentence = (" ", Pick(tuple(compile_pattern(pattern) for pattern in patterns)))
        pieces += [Pick(((), sentence))] if beat.endswith("?") else sentence
    return tuple(pieces)


# no space before the first sentence
_SHAPES = Pick(tuple(_beats(plan)[1:] for plan in STORY_SHAPES.values()))


def generate_story(seed: int) -> Story:
    """Generate the story of a seed, the same on every machine and every version of Python.

    Only `Random.random` is used: Python guarantees its sequence for a seed
    (https://docs.python.org/3/library/random.html#notes-on-reproducibility).
    """
    draw = random.Random(seed).random
    writer = StoryWriter(lambda n: int(draw() * n))
    writer.say((_SHAPES,))
    return Story(
        text=writer.text,
        bits=sum(map(math.log2, writer.sizes)),
        choices=tuple(writer.choices),
        probabilities=tuple(1 / size for size in writer.sizes),
        shape=SHAPES[writer.choices[0]],
        probes=tuple(_probe(writer.text, *mark) for mark in writer.marks),
    )


def _probe(text: str, end: int, answer: str, skill: str, others: tuple[str, ...]) -> Probe:
    """Make a probe; a space before the answer belongs to the answer, as in tokenizers."""
    prompt = text[: end - len(answer)]
    space = " " if prompt.endswith(" ") else ""
    return Probe(
        skill, prompt.removesuffix(" "), space + answer, tuple(space + other for other in others)
    )


def parse(text: str) -> tuple[int, ...]:
    """Recover the choices of a story. Raises ValueError unless exactly one parse exists."""
    parses = list(islice(match((_SHAPES,), without_an(text), 0, {}), 2))
    if len(parses) != 1:
        number = "more than one parse" if parses else "no parse"
        raise ValueError(f"{text[:80]!r}...: {number}; expected a text from generate_story()")
    return parses[0]


def begins(text: str) -> bool:
    """Whether some story begins with this text: the grammar allows it as a prefix."""
    return any(True for _ in match((_SHAPES,), without_an(text), 0, {}, partial=True))


def bits(text: str) -> float:
    """Exact information of a story's text in bits, -log2 of its probability. Raises as `parse`."""
    choices = iter(parse(text))
    writer = StoryWriter(lambda n: next(choices))
    writer.say((_SHAPES,))
    return sum(map(math.log2, writer.sizes))


def prefix_bits(text: str) -> float:
    """Exact information of a story's beginning, in bits; inf if no story begins with it.

    That is -log2 of the probability that a story begins with it.

    The difference between two prefixes is the surprise of the text between them under the grammar;
    the end of a whole story has `bits(text) - prefix_bits(text)`.
    """
    if re.search(r"\b[Aa] [aeiou]", text):
        return math.inf
    pattern = without_an(text)
    probability = _pattern_probability(pattern)
    # Patterns write "a" where a story has "an",
    # so the next letter decides what an article at the end is.
    if article := re.search(r"\b[Aa]n ?$", pattern):
        probability += sum(
            _pattern_probability(f"{pattern[: article.start() + 1]} {vowel}") for vowel in "aeiou"
        )
    elif re.search(r"\b[Aa] $", pattern):
        probability -= sum(_pattern_probability(pattern + vowel) for vowel in "aeiou")
    return 0.0 - math.log2(min(1.0, probability)) if probability > 0 else math.inf


def _pattern_probability(prefix: str) -> float:
    """Probability that a story as the patterns write it begins with this: all partial parses."""
    total = 0.0
    for choices in match((_SHAPES,), prefix, 0, {}, partial=True):
        made = iter(choices)
        writer = StoryWriter(lambda n, made=made: next(made))  # type: ignore[misc]
        with suppress(StopIteration):  # the choices after the prefix are open
            writer.say((_SHAPES,))
        total += math.prod(1 / size for size in writer.sizes)
    return total


@cache
def entropy() -> float:
    """Entropy in bits per story: the exact mean of `Story.bits`, without sampling."""
    return expected_bits((_SHAPES,))[0]


@cache
def floor_bits_per_byte(n_stories: int = 200) -> float:
    """Entropy of validation stories in bits per byte: a lower bound on the mean validation loss."""
    stories = [generate_story(HELD_OUT + i) for i in range(n_stories)]
    n_bytes = sum(len(story.text.encode()) for story in stories)
    return sum(story.bits for story in stories) / n_bytes


def example_probes() -> list[Probe]:
    """One probe per skill, in the order of `SKILLS`: the shortest in 20 validation stories."""
    probes = [probe for i in range(20) for probe in generate_story(HELD_OUT + i).probes]
    by_skill = {skill: [probe for probe in probes if probe.skill == skill] for skill in SKILLS}
    return [min(by_skill[skill], key=lambda probe: len(probe.prompt)) for skill in SKILLS]
