"""A corpus made to be understood: short children's stories from a grammar whose entropy is known exactly.

`tell(seed)` is the story of a seed; `parse(text)` reads its choices back; `bits(text)` is the information in it, the floor
that no model can beat. A `Probe` is a place where a skill (recall a name, agree a pronoun, remember an object and where it was
put, count, undo an order) decides the next word.
The engine is `story_grammar.py`; sentences are in `story_sentences.py`, shapes in `story_shapes.py`, words in `story_words.py`.
Proof: tests/data/test_stories.py.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from itertools import islice

from llm_scratch.data.story_grammar import Pick, Pieces, Telling, compile_pattern, expected_bits, match, without_an
from llm_scratch.data.story_sentences import BEATS
from llm_scratch.data.story_shapes import SCENES, STORY_SHAPES

HELD_OUT = 1_000_000_000  # seeds from here on are never trained on
SHAPES: tuple[str, ...] = tuple(STORY_SHAPES)
SKILLS: tuple[str, ...] = ("name", "pronoun", "object", "count", "order")


@dataclass(frozen=True)
class Probe:
    """A place in a story where a skill decides the next word."""

    skill: str  # one of SKILLS
    prompt: str  # the story up to here, without a space at its end
    answer: str  # what follows, with the space before it if there is one, for example " Lily"
    others: tuple[str, ...]  # wrong answers of the same kind; chance is 1 / (1 + len(others))


@dataclass(frozen=True)
class Story:
    """A story, the choices that made it, and what it tests."""

    text: str  # sentences with single spaces, no newline at the end
    bits: float  # -log2 of the story's probability
    choices: tuple[int, ...]
    probabilities: tuple[float, ...]  # of each choice; bits is minus the sum of their log2
    shape: str
    probes: tuple[Probe, ...]


def _beats(plan: str) -> Pieces:
    """The pieces of "beat beat? beat": one sentence pattern for each beat; a beat with "?" is told in half of the stories."""
    pieces: list[str | Pick] = []
    for beat in plan.split():
        patterns = {**BEATS, **SCENES}[beat.rstrip("?")]
        told = (" ", Pick(tuple(compile_pattern(pattern) for pattern in patterns)))
        pieces += [Pick(((), told))] if beat.endswith("?") else told
    return tuple(pieces)


_SHAPES = Pick(tuple(_beats(plan)[1:] for plan in STORY_SHAPES.values()))  # no space before the first sentence


def generate_story(seed: int) -> Story:
    """The story of this seed, the same on every machine and every version of Python.

    Only `Random.random` is used: its sequence for a seed is promised never to change
    (https://docs.python.org/3/library/random.html#notes-on-reproducibility).
    """
    draw = random.Random(seed).random
    telling = Telling(lambda n: int(draw() * n))
    telling.say((_SHAPES,))
    return Story(
        text=telling.text,
        bits=sum(map(math.log2, telling.sizes)),
        choices=tuple(telling.choices),
        probabilities=tuple(1 / size for size in telling.sizes),
        shape=SHAPES[telling.choices[0]],
        probes=tuple(_probe(telling.text, *mark) for mark in telling.marks),
    )


def _probe(text: str, end: int, answer: str, skill: str, others: tuple[str, ...]) -> Probe:
    """The probe of a mark; a space before the answer belongs to the answer, as tokenizers have it."""
    prompt = text[: end - len(answer)]
    space = " " if prompt.endswith(" ") else ""
    return Probe(skill, prompt.removesuffix(" "), space + answer, tuple(space + other for other in others))


def parse(text: str) -> tuple[int, ...]:
    """Read a story back to its choices. Raises ValueError when no story, or more than one, reads so."""
    found = list(islice(match((_SHAPES,), without_an(text), 0, {}), 2))
    if len(found) != 1:
        raise ValueError(f"{'no story reads' if not found else 'more than one story reads'} {text[:80]!r}...; expected a text from tell()")
    return found[0]


def begins(text: str) -> bool:
    """Whether some story begins with this text: tells which words the grammar allows next."""
    return any(True for _ in match((_SHAPES,), without_an(text), 0, {}, partial=True))


def bits(text: str) -> float:
    """The exact information in a story's text, -log2 of its probability. Raises ValueError as `parse` does."""
    choices = iter(parse(text))
    telling = Telling(lambda n: next(choices))
    telling.say((_SHAPES,))
    return sum(map(math.log2, telling.sizes))


@cache
def entropy() -> float:
    """The entropy of the source in bits a story: the exact mean of `Story.bits` over all stories, without sampling."""
    return expected_bits((_SHAPES,))[0]


@cache
def floor_bits_per_byte(n_stories: int = 200) -> float:
    """The entropy of held-out stories in bits per byte: the validation loss that no model can beat on average."""
    stories = [generate_story(HELD_OUT + i) for i in range(n_stories)]
    return sum(story.bits for story in stories) / sum(len(story.text.encode()) for story in stories)


def example_probes() -> list[Probe]:
    """One question of each skill, in the order of `SKILLS`: from held-out stories, the shortest of the first 20 stories."""
    probes = [probe for i in range(20) for probe in generate_story(HELD_OUT + i).probes]
    return [min((probe for probe in probes if probe.skill == skill), key=lambda probe: len(probe.prompt)) for skill in SKILLS]
