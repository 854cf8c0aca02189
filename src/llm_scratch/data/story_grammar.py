"""The engine behind the stories: sentence patterns become pieces, pieces become text, and text becomes choices again.

A pattern is plain English with three kinds of holes:

    [went|ran|walked]   one of these, each as likely as the others
    {kind}              one word of the list `WORDS["kind"]`; {Kind} writes it with a capital; {kind?} and {?kind} write it, with a
                        space after or before, in half of the cases
    {thing}             a word that the story remembers (`SKILL` lists them): drawn the first time, the same word ever after;
                        {thing2} is another one, and a digit makes any word remembered, so {food1} and {food2} differ;
                        {A} and {B} are the two children, {A:she} is a form of A's word and {n:more} a form of the number's

Every choice is uniform and is made where the reader meets it, so a story's probability is the product of 1/options, and reading
from left to right undoes the telling. Read `Telling.say` (choices to text) beside `match` (text to choices): same three cases.
Proof that they agree: tests/data/test_stories.py.
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
    "name": "name", "number": "count", "thing": "object", "near": "object", "spot": "object", "flock": "object",
    "treat": "object", "garment": "order", "landmark": "order", "color": "order", "supply": "order", "beast": "order", "tune": "order",
}  # fmt: skip
ALIAS = {"A": "name1", "B": "name2", "n": "number1"}
HOLE = re.compile(r"\{(\??)(\w+?)(\d?)(?::(\w+))?(\??)\}|\[([^\[\]]*)\]")
OPENS = re.compile(r"[.!?]\"? (\w+,? ){0,2}$")  # at most two words into a sentence
MAX_OTHERS = 3

Mark = tuple[int, str, str, tuple[str, ...]]  # (where the answer ends, answer, skill, wrong answers)
Memory = dict[str, str]  # role -> its word, for example "thing1" -> "kite"


@dataclass(frozen=True)
class Pick:
    """A choice: one of `options`, each a sequence of pieces."""

    options: tuple[Pieces, ...]


@dataclass(frozen=True)
class Recall:
    """A remembered word: `role` is drawn from `WORDS[kind]` the first time; afterwards it is known and only its `form` is written."""

    role: str
    kind: str
    form: str = ""


Piece = str | Pick | Recall
Pieces = tuple[Piece, ...]


def compile_pattern(pattern: str) -> Pieces:
    """Turn a pattern into pieces. A name in braces that is no known list raises KeyError."""
    pieces: list[Piece] = []
    end = 0
    for hole in HOLE.finditer(pattern):
        pieces += [pattern[end : hole.start()], _piece(*hole.groups())]
        end = hole.end()
    pieces.append(pattern[end:])
    return tuple(piece for piece in pieces if piece != "")


def _piece(before: str, name: str, digit: str, form: str, after: str, options: str) -> Piece:
    """The piece of a hole: `options` of a bracket, or what stands between braces."""
    if options is not None:
        return Pick(tuple(compile_pattern(option) for option in options.split("|")))
    if before or after:
        word = _piece("", name, digit, form, "", options)
        return Pick(((), (" ", word) if before else (word, " ")))
    role = ALIAS.get(name, name.lower() + (digit or "1"))
    kind = role[:-1]
    if digit or kind in SKILL:
        return Recall(role, kind, form or ("" if name.islower() or name in ALIAS else "Same"))
    return Pick(tuple(compile_pattern(word if name.islower() else word[0].upper() + word[1:]) for word in WORDS[kind]))


@cache
def drawable(kind: str, taken: frozenset[str]) -> tuple[str, ...]:
    """The words of a kind that the story does not use yet, in the list's order."""
    return tuple(word for word in WORDS[kind] if word not in taken)


def free_words(memory: Memory, kind: str) -> tuple[str, ...]:
    """The words that a new role of this kind may get: no two roles of a story share a word."""
    return drawable(kind, frozenset(word for role, word in memory.items() if role[:-1] == kind))


@cache
def inflect(word: str, form: str) -> tuple[str, ...]:
    """A form of a remembered word, cut where a skill decides what follows.

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


PRONOUNS = {"she": ("she", "he"), "her": ("her", "his"), "him": ("her", "him"), "girl": ("girl", "boy")}
COUNTED: dict[str, Callable[[int], tuple[str, ...]]] = {
    "count": lambda value: NUMBERS[:value],
    "back": lambda value: NUMBERS[:value][::-1],
    "upto": lambda value: NUMBERS[: value + 1],
}


def skill_and_others(piece: Recall, part: str, memory: Memory) -> tuple[str, tuple[str, ...]]:
    """The skill that a recalled part needs, and wrong answers of its kind: first those that the story itself offers."""
    if piece.form.lower() in PRONOUNS:
        pair = PRONOUNS[piece.form.lower()]
        wrong = pair[part.lower() == pair[0]]
        return "pronoun", (wrong.capitalize() if piece.form[0].isupper() else wrong,)
    if part == ".":
        return "count", (",",)  # the count ends here or goes on
    word = part if piece.kind == "name" else part.lower()
    rivals = [other for role, other in memory.items() if role[:-1] == piece.kind and other != memory[piece.role]]
    if piece.kind == "number":
        i = NUMBERS.index(word)
        others = [NUMBERS[j] for j in (i + 1, i - 1, i + 2, i - 2, i - 3) if 0 <= j < len(NUMBERS)]
    elif SKILL[piece.kind] == "order":
        others = rivals
    else:
        words = WORDS[piece.kind]
        absent = [words[(words.index(word) + 7 * step) % len(words)] for step in range(1, MAX_OTHERS + 2)]
        others = [*rivals, *(other for other in absent if other not in rivals and other != word)]
    others = others[:MAX_OTHERS]
    return SKILL[piece.kind], tuple(others if part == word else (other.capitalize() for other in others))


class Telling:
    """One story being told: the text so far, the choices made, and the places where a skill decided what came next."""

    def __init__(self, choose: Callable[[int], int]) -> None:
        self.choose = choose  # n -> one of 0 .. n - 1
        self.text = ""
        self.memory: Memory = {}
        self.choices: list[int] = []
        self.sizes: list[int] = []  # how many options each choice had
        self.marks: list[Mark] = []
        self.again: set[str] = set()  # roles that were mentioned twice

    def pick(self, n: int) -> int:
        """Make one choice among n and note it."""
        choice = self.choose(n)
        self.choices.append(choice)
        self.sizes.append(n)
        return choice

    def say(self, pieces: Pieces) -> None:
        """Write the pieces, making choices on the way."""
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
        """Write a word that the story already knows, and mark each part that a skill decides.

        Two kinds of words are not marked: a name among the first words of a sentence, as which child it is about is often free,
        and the second mention of what a deed names in order, as only the third, the undoing, turns the order round.
        """
        skill = SKILL.get(piece.kind)
        free = (skill == "name" and not piece.form and OPENS.search(self.text)) or (skill == "order" and piece.role not in self.again)
        self.again.add(piece.role)
        for part in inflect(self.memory[piece.role], piece.form):
            self.write(part)
            if skill and not free and not part.endswith(", "):
                self.marks.append((len(self.text), part, *skill_and_others(piece, part, self.memory)))

    def write(self, text: str) -> None:
        """Add text; "a" becomes "an" before a vowel."""
        if text[0] in "aeiou" and self.text.endswith((" a ", "A ")):
            self.text = self.text[:-1] + "n "
        self.text += text


def match(pieces: Pieces, text: str, at: int, memory: Memory, partial: bool = False) -> Iterator[tuple[int, ...]]:
    """Yield the choices of every way in which the pieces read as `text[at:]`; text comes from `without_an`.

    With `partial`, the text may stop early: then a way is found when some story begins so.
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
            yield from match(inflect(memory[piece.role], piece.form) + rest, text, at, memory, partial)
            return
        words = () if isinstance(piece, Pick) else free_words(memory, piece.kind)
        options = piece.options if isinstance(piece, Pick) else tuple(inflect(word, piece.form) for word in words)
        for choice, option in enumerate(options):
            first = option[0] if option else ""
            if not isinstance(first, str) or text.startswith(first, at) or (partial and first.startswith(text[at:])):
                known = memory if isinstance(piece, Pick) else memory | {piece.role: words[choice]}
                for choices in match(option + rest, text, at, known, partial):
                    yield (choice, *choices)
        return
    if at == len(text):
        yield ()


def without_an(text: str) -> str:
    """The text with every "an" written "a", as the patterns write it."""
    return re.sub(r"\b([Aa])n (?=[aeiou])", r"\1 ", text)


def expected_bits(pieces: Pieces, roles: frozenset[str] = frozenset()) -> tuple[float, dict[frozenset[str], float]]:
    """The mean information of what the pieces say, in bits, after a story that remembers `roles`.

    Returns:
        (bits, probability of each set of roles that the story may then remember). No sampling: the sum runs over all ways.
    """
    bits, now = 0.0, {roles: 1.0}
    for piece in pieces:
        if isinstance(piece, str):
            continue
        after: dict[frozenset[str], float] = defaultdict(float)
        for known, p in now.items():
            if isinstance(piece, Pick):
                share = p / len(piece.options)
                bits += p * math.log2(len(piece.options))
                for option in piece.options:
                    more, then = expected_bits(option, known)
                    bits += share * more
                    for later, q in then.items():
                        after[later] += share * q
            else:
                if piece.role not in known:
                    bits += p * math.log2(len(WORDS[piece.kind]) - sum(role[:-1] == piece.kind for role in known))
                after[known | {piece.role}] += p
        now = after
    return bits, now
