"""Story grammar engine: compile patterns, generate text from choices, parse text into choices.

A pattern is plain English with three kinds of holes:

    [went|ran|walked]   one of these, with equal probability
    {kind}              one word of the list `WORDS["kind"]`; {Kind} capitalizes it; {kind?} and
                        {?kind} write it, with a space after or before, in half of the cases
    {thing}             a remembered word (`SKILL` lists their kinds): drawn the first time, the
                        same word afterwards; {thing2} is another one, and a digit makes any word
                        remembered, so {food1} and {food2} differ; {A} and {B} are the two children,
                        {A:she} is a form of A's word and {n:more} a form of the number's

Every choice is uniform and is made where its text appears, so a story's probability is the product
of 1/options, and parsing from left to right recovers the choices. `StoryWriter.say` (choices to
text) and `match` (text to choices) handle the same three cases.
Tests: tests/data/test_stories.py (both agree).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from llm_scratch.data.story_words import NUMBERS, WORDS

SKILL = {
    "name": "name",
    "number": "count",
    "thing": "object",
    "near": "object",
    "spot": "object",
    "flock": "object",
    "treat": "object",
    "garment": "order",
    "landmark": "order",
    "color": "order",
    "supply": "order",
    "beast": "order",
    "tune": "order",
}
ALIAS = {"A": "name1", "B": "name2", "n": "number1"}
HOLE = re.compile(r"\{(\??)(\w+?)(\d?)(?::(\w+))?(\??)\}|\[([^\[\]]*)\]")
OPENS = re.compile(r"[.!?]\"? (\w+,? ){0,2}$")  # at most two words into a sentence
MAX_OTHERS = 3

Mark = tuple[int, str, str, tuple[str, ...]]  # (end of the answer, answer, skill, wrong answers)
Memory = dict[str, str]  # role -> its word, for example "thing1" -> "kite"


@dataclass(frozen=True)
class Pick:
    """A choice: one of `options`, each a sequence of pieces."""

    options: tuple[Pieces, ...]


@dataclass(frozen=True)
class Recall:
    """A remembered word: drawn from `WORDS[kind]` at first, written as `form` afterwards."""

    role: str
    kind: str
    form: str = ""


Piece = str | Pick | Recall
Pieces = tuple[Piece, ...]


def compile_pattern(pattern: str) -> Pieces:
    """Compile a pattern into pieces. An unknown name in braces raises KeyError."""
    pieces: list[Piece] = []
    end = 0
    for hole in HOLE.finditer(pattern):
        pieces += [pattern[end : hole.start()], _piece(*hole.groups())]
        end = hole.end()
    pieces.append(pattern[end:])
    return tuple(piece for piece in pieces if piece != "")


def _piece(before: str, name: str, digit: str, form: str, after: str, options: str) -> Piece:
    """Compile a hole: the `options` of a bracket, or the content of braces."""
    if options is not None:
        return Pick(tuple(compile_pattern(option) for option in options.split("|")))
    if before or after:
        word = _piece("", name, digit, form, "", options)
        return Pick(((), (" ", word) if before else (word, " ")))
    role = ALIAS.get(name, name.lower() + (digit or "1"))
    kind = role[:-1]
    if digit or kind in SKILL:
        return Recall(role, kind, form or ("" if name.islower() or name in ALIAS else "Same"))
    words = WORDS[kind]
    if not name.islower():
        words = [word[0].upper() + word[1:] for word in words]
    return Pick(tuple(compile_pattern(word) for word in words))


@cache
def drawable(kind: str, taken: frozenset[str]) -> tuple[str, ...]:
    """The words of a kind that a story has not used yet, in the list's order."""
    return tuple(word for word in WORDS[kind] if word not in taken)


def free_words(memory: Memory, kind: str) -> tuple[str, ...]:
    """The words available for a new role of this kind: no two roles of a story share a word."""
    taken = frozenset(word for role, word in memory.items() if role[:-1] == kind)
    return drawable(kind, taken)


@cache
def inflect(word: str, form: str) -> tuple[str, ...]:
    """Inflect a remembered word, split where a skill decides the next part.

    >>> inflect("Lily", "she"), inflect("four", "more"), inflect("three", "count")
    (('she',), ('five',), ('one, two, ', 'three', '.'))
    """
    if form.lower() in PRONOUNS:
        pronoun = PRONOUNS[form.lower()][word not in WORDS["girl"]]
        return (pronoun if form.islower() else pronoun.capitalize(),)
    if form in ("", "same"):
        return (word,)
    if form[0].isupper():
        return tuple(part.capitalize() for part in inflect(word, form.lower()))
    value = NUMBERS.index(word) + 1
    if form in COUNTED:
        steps = COUNTED[form](value)
        return (", ".join(steps[:-1]) + ", ", steps[-1], ".")
    return (NUMBERS[value - 1 + {"more": 1, "less": -1}[form]],)


PRONOUNS = {
    "she": ("she", "he"),
    "her": ("her", "his"),
    "him": ("her", "him"),
    "girl": ("girl", "boy"),
}
COUNTED: dict[str, Callable[[int], tuple[str, ...]]] = {
    "count": lambda value: NUMBERS[:value],
    "back": lambda value: NUMBERS[:value][::-1],
    "upto": lambda value: NUMBERS[: value + 1],
}


def skill_and_others(piece: Recall, part: str, memory: Memory) -> tuple[str, tuple[str, ...]]:
    """The skill needed for a recalled part, and wrong answers: those of the story come first."""
    if piece.form.lower() in PRONOUNS:
        pair = PRONOUNS[piece.form.lower()]
        wrong = pair[part.lower() == pair[0]]
        return "pronoun", (wrong.capitalize() if piece.form[0].isupper() else wrong,)
    if part == ".":
        return "count", (",",)  # the count ends here or continues
    word = part if piece.kind == "name" else part.lower()
    rivals = [
        other
        for role, other in memory.items()
        if role[:-1] == piece.kind and other != memory[piece.role]
    ]
    if piece.kind == "number":
        i = NUMBERS.index(word)
        nearby = (i + 1, i - 1, i + 2, i - 2, i - 3)
        others = [NUMBERS[j] for j in nearby if 0 <= j < len(NUMBERS)]
    elif SKILL[piece.kind] == "order":
        others = rivals
    else:
        words = WORDS[piece.kind]
        at = words.index(word)
        absent = [words[(at + 7 * step) % len(words)] for step in range(1, MAX_OTHERS + 2)]
        others = [*rivals, *(other for other in absent if other not in rivals and other != word)]
    others = others[:MAX_OTHERS]
    if part != word:
        others = [other.capitalize() for other in others]
    return SKILL[piece.kind], tuple(others)


class StoryWriter:
    """A story being generated: text, choices, and positions where a skill decides the word."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose  # n -> one of 0 .. n - 1
        self.text = ""
        self.memory: Memory = {}
        self.choices: list[int] = []
        self.sizes: list[int] = []  # how many options each choice had
        self.marks: list[Mark] = []
        self.repeated: set[str] = set()  # roles mentioned at least twice

    def pick(self, n: int) -> int:
        """Make and record one choice among n."""
        choice = self.choose(n)
        self.choices.append(choice)
        self.sizes.append(n)
        return choice

    def say(self, pieces: Pieces) -> None:
        """Write the pieces, making the choices in them."""
        for piece in pieces:
            if isinstance(piece, str):
                self.write(piece)
            elif isinstance(piece, Pick):
                self.say(piece.options[self.pick(len(piece.options))])
            elif piece.role in self.memory:
                self.recall(piece)
            else:
                words = free_words(self.memory, piece.kind)
                self.memory[piece.role] = words[self.pick(len(words))]
                self.write("".join(inflect(self.memory[piece.role], piece.form)))

    def recall(self, piece: Recall) -> None:
        """Write a remembered word, and mark each part that a skill decides.

        Two cases are not marked. A name among the first words of a sentence: either child may be
        its subject. The second mention of a word in an ordered list: only the third one reverses
        it.
        """
        skill = SKILL.get(piece.kind)
        starts_sentence = skill == "name" and not piece.form and OPENS.search(self.text)
        second_of_list = skill == "order" and piece.role not in self.repeated
        free = starts_sentence or second_of_list
        self.repeated.add(piece.role)
        for part in inflect(self.memory[piece.role], piece.form):
            self.write(part)
            if skill and not free and not part.endswith(", "):
                self.marks.append(
                    (len(self.text), part, *skill_and_others(piece, part, self.memory))
                )

    def write(self, text: str) -> None:
        """Add text; "a" becomes "an" before a vowel."""
        if text[0] in "aeiou" and self.text.endswith((" a ", "A ")):
            self.text = self.text[:-1] + "n "
        self.text += text


def match(
    pieces: Pieces, text: str, at: int, memory: Memory, partial: bool = False
) -> Iterator[tuple[int, ...]]:
    """Yield the choices of every parse of `text[at:]` as `pieces`; text comes from `without_an`.

    With `partial`, the text may be a prefix of a story.
    """
    for i, piece in enumerate(pieces):
        if isinstance(piece, str):
            if not text.startswith(piece, at):
                if partial and piece.startswith(text[at:]):
                    yield ()
                return
            at += len(piece)
            continue
        rest = pieces[i + 1 :]
        if isinstance(piece, Recall) and piece.role in memory:
            yield from match(
                inflect(memory[piece.role], piece.form) + rest, text, at, memory, partial
            )
            return
        words: tuple[str, ...] = ()
        if isinstance(piece, Pick):
            options = piece.options
        else:
            words = free_words(memory, piece.kind)
            options = tuple(inflect(word, piece.form) for word in words)
        for choice, option in enumerate(options):
            first = option[0] if option else ""
            if (
                not isinstance(first, str)
                or text.startswith(first, at)
                or (partial and first.startswith(text[at:]))
            ):
                known = memory if isinstance(piece, Pick) else memory | {piece.role: words[choice]}
                for choices in match(option + rest, text, at, known, partial):
                    yield (choice, *choices)
        return
    if at == len(text):
        yield ()


def without_an(text: str) -> str:
    """Replace "an" by "a", as the patterns write it."""
    return re.sub(r"\b([Aa])n (?=[aeiou])", r"\1 ", text)


def expected_bits(
    pieces: Pieces, roles: frozenset[str] = frozenset()
) -> tuple[float, dict[frozenset[str], float]]:
    """Entropy of the pieces in bits, given the remembered `roles`; exact, without sampling.

    Returns:
        (bits, probability of each set of remembered roles afterwards).
    """
    bits = 0.0
    now = {roles: 1.0}
    for piece in pieces:
        if isinstance(piece, str):
            continue
        after: dict[frozenset[str], float] = defaultdict(float)
        for known, p in now.items():
            if isinstance(piece, Pick):
                share = p / len(piece.options)
                bits += p * math.log2(len(piece.options))
                for option in piece.options:
                    option_bits, then = expected_bits(option, known)
                    bits += share * option_bits
                    for later, q in then.items():
                        after[later] += share * q
            else:
                if piece.role not in known:
                    n_taken = sum(role[:-1] == piece.kind for role in known)
                    bits += p * math.log2(len(WORDS[piece.kind]) - n_taken)
                after[known | {piece.role}] += p
        now = after
    return bits, now
