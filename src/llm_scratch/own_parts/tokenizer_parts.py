"""Check a learner's byte-pair encoding against the package's, and tokenize with it.

A word is a tuple of token ids; the first 256 are the bytes in GPT-2's order, and merge number n
makes token 256 + n. The mistakes of the two halves of the algorithm are those of exercises 1.4 and
1.5.
Tests: tests/own_parts/test_checks.py, tests/own_parts/test_use.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from llm_scratch.errors import DATA, UserError
from llm_scratch.learn.sealed import open_sealed
from llm_scratch.own_parts.verdict import OUTPUT, Verdict, compare
from llm_scratch.tokenizers import bpe_train
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.merging import FIRST_MERGE, merge_piece, symbols

Word = tuple[int, ...]
Pair = tuple[int, int]
Learn = Callable[[dict[Word, int], int], Sequence[Pair]]
Encode = Callable[[Word, list[Pair]], Sequence[int]]
LETTERS = "abn"
TRIALS = 30


def as_word(piece: str) -> Word:
    """A piece of text as token ids, one for each byte."""
    return tuple(map(ord, symbols(piece.encode("utf-8", "replace"))))


def as_pairs(merges: Sequence[str]) -> list[Pair]:
    """The merges of `bpe_train.learn_merges` as pairs of ids."""
    return [(ord(pair[0]), ord(pair[1])) for pair in merges]


def check_learn_merges(theirs: Learn) -> Verdict:
    """Compare a `learn_merges(words, n_merges)`."""
    rng = Random(7)
    cases = [(_pieces(rng), rng.randint(3, 6)) for _ in range(TRIALS)]
    choose, join = (open_sealed(exercise) for exercise in ("1.4", "1.5"))
    mistakes = [
        _learning(choose.solve, lambda word, pair, new: word, NEVER_JOINED),
        *(_learning(mistake, join.solve, mistake.__doc__) for mistake in choose.mistakes),
        *(_learning(choose.solve, mistake, mistake.__doc__) for mistake in join.mistakes),
    ]
    return compare(
        "learn_merges",
        lambda pieces, n: {OUTPUT: theirs({as_word(p): k for p, k in pieces.items()}, n)},
        lambda pieces, n: {OUTPUT: as_pairs(bpe_train.learn_merges(pieces, n))},
        cases,
        mistakes,
    )


NEVER_JOINED = "It merges the same pair again and again; after a merge, join the pair in each word."


def _pieces(rng: Random) -> dict[str, int]:
    pieces: dict[str, int] = {}
    while len(pieces) < 6:
        pieces["".join(rng.choice(LETTERS) for _ in range(rng.randint(4, 8)))] = rng.randint(1, 5)
    return pieces


def _learning(choose: Any, join: Any, diagnosis: str | None) -> Callable[..., Any]:
    """The plain algorithm with one half replaced by a mistake."""

    def learn(pieces: Mapping[str, int], n_merges: int) -> Any:
        words = {as_word(piece): n for piece, n in pieces.items()}
        merges = []
        try:
            for new in range(FIRST_MERGE, FIRST_MERGE + n_merges):
                merges.append(choose(words))
                words = {join(word, merges[-1], new): n for word, n in words.items()}
        except (TypeError, ValueError, LookupError):  # the mistake ends the algorithm early
            return None
        return merges

    learn.__doc__ = diagnosis
    return learn


def check_encode_word(theirs: Encode) -> Verdict:
    """Compare an `encode_word(word, merges)`."""
    rng = Random(8)
    cases = []
    for _ in range(TRIALS):
        merges = as_pairs(bpe_train.learn_merges(_pieces(rng), 8))
        word = as_word("".join(rng.choice(LETTERS) for _ in range(rng.randint(5, 12))))
        cases.append((word, merges))
    return compare(
        "encode_word",
        lambda word, merges: {OUTPUT: theirs(word, merges)},
        lambda word, merges: {OUTPUT: _encode(word, merges)},
        cases,
        ENCODE_MISTAKES,
    )


def _encode(word: Word, merges: Sequence[Pair]) -> list[int]:
    """The package's rule, on ids."""
    pair_of = {chr(FIRST_MERGE + n): chr(a) + chr(b) for n, (a, b) in enumerate(merges)}
    joined = {pair: new for new, pair in pair_of.items()}
    return list(map(ord, merge_piece("".join(map(chr, word)), joined, pair_of)))


def _longest_first(word: Word, merges: Sequence[Pair]) -> list[int]:
    """It takes the longest token from the left;
    repeat the merges in the order they were learned.
    """
    spelled: dict[Word, int] = {(i,): i for i in range(FIRST_MERGE)}
    words: list[Word] = [(i,) for i in range(FIRST_MERGE)]
    for n, (a, b) in enumerate(merges):
        words.append(words[a] + words[b])
        spelled[words[-1]] = FIRST_MERGE + n
    ids, start = [], 0
    while start < len(word):
        end = next(end for end in range(len(word), start, -1) if word[start:end] in spelled)
        ids.append(spelled[word[start:end]])
        start = end
    return ids


def _one_merge(word: Word, merges: Sequence[Pair]) -> list[int]:
    """It joins one pair and stops; continue until no pair is a merge."""
    known = [pair for pair in zip(word, word[1:]) if pair in merges]
    if not known:
        return list(word)
    first = min(known, key=merges.index)
    return list(open_sealed("1.5").solve(word, first, FIRST_MERGE + merges.index(first)))


def _not_merged(word: Word, merges: Sequence[Pair]) -> list[int]:
    """Nothing is joined. (Is a list compared with a tuple? They are never equal.)"""
    return list(word)


def _any_pair(word: Word, merges: Sequence[Pair]) -> list[int]:
    """It joins the first pair from the left; of all pairs, the one learned first comes first."""
    ids = list(word)
    while known := [i for i, pair in enumerate(zip(ids, ids[1:])) if pair in merges]:
        at = known[0]
        ids[at : at + 2] = [FIRST_MERGE + merges.index((ids[at], ids[at + 1]))]
    return ids


ENCODE_MISTAKES = _longest_first, _one_merge, _not_merged, _any_pair


def own_bpe(learn: Learn | None, encode: Encode | None) -> type[ByteBPE]:
    """A `ByteBPE` that learns and encodes with a learner's functions; None: the package's."""

    class OwnBPE(ByteBPE):
        """Byte-pair encoding by a learner."""

        @staticmethod
        def learn_merges(
            counts: Mapping[str, int], n_merges: int, tick: Callable[[], object] = lambda: None
        ) -> list[str]:
            if learn is None:
                return bpe_train.learn_merges(counts, n_merges, tick)
            words: dict[Word, int] = {as_word(piece): n for piece, n in counts.items()}
            return [chr(a) + chr(b) for a, b in learn(words, n_merges)]

        def encode_ordinary(self, text: str) -> list[int]:
            return super().encode_ordinary(text) if encode is None else self._encode_in_python(text)

        def _encode_piece(self, piece: str) -> tuple[int, ...]:
            if encode is None:
                return super()._encode_piece(piece)
            merges = as_pairs(list(self.vocabulary.pair_of.values()))
            try:
                return tuple(self._id[chr(i)] for i in encode(as_word(piece), merges))
            except (KeyError, TypeError, ValueError) as e:
                raise UserError(
                    f"encode_word: it gives ids that are not tokens for {piece!r};"
                    f" return ids below {FIRST_MERGE + len(merges)}",
                    DATA,
                ) from e

    return OwnBPE
