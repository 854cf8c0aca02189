"""Words as strings with one character per token, so that merging a pair is `str.replace`.

In a piece of text each byte is a token, numbered as in GPT-2 (`BYTES`); merge number i makes token 256 + i. A *word* here is the
string of `chr(number)` of its tokens, and a *pair* is two such characters. Read `merge_piece`: it is the rule of byte-pair
encoding in two lines. `merge_long` gives the same result for very long words. `Chain` is a very long word from which merges are learned.
Tests: tests/tokenizers/test_merging.py.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping
from operator import add

BYTES = bytes([*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173])
"""The 256 bytes in the order of GPT-2's ids: those that print come first."""

FIRST_MERGE = 256
_SYMBOL_OF_BYTE = "".join(chr(BYTES.index(byte)) for byte in range(256))


def symbols(piece: bytes) -> str:
    """A piece of text as a word of single bytes: b"!" is `chr(0)`, because "!" is the first in `BYTES`."""
    return piece.decode("latin-1").translate(_SYMBOL_OF_BYTE)  # a string serves as a table from 0 on


def pairs(word: str) -> map[str]:
    """The pairs of neighbours in a word: "abc" has "ab" and "bc"."""
    return map(add, word, word[1:])


def merge_piece(word: str, joined: Mapping[str, str], pair_of: Mapping[str, str]) -> str:
    """Merge what can be merged: of all pairs in the word the one learned first, wherever it stands, until no pair was learned.

    Merging all places of a pair at once is exact, because the pairs that it makes contain the new token and were learned later.

    Args:
        word: one character per token.
        joined: pair -> the token that it makes; a larger character was learned later.
        pair_of: token -> the pair that made it.
    """
    while new := min(filter(None, map(joined.get, pairs(word))), default=""):
        word = word.replace(pair_of[new], new)
    return word


def merge_long(word: str, joined: Mapping[str, str], pair_of: Mapping[str, str]) -> str:
    """`merge_piece` for a word of thousands of tokens, in a time that grows with its length and not with its square.

    The tokens form a chain (`left`, `right`: the neighbours of a place), `places` lists where each learned pair was seen, and a heap
    says which pair is next. A place whose tokens have changed since is passed over.
    """
    tokens = list(word)
    end = len(tokens)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    places: dict[str, list[int]] = {}
    for i, new in enumerate(map(joined.get, pairs(word))):
        if new:
            places.setdefault(new, []).append(i)
    queue = list(places)
    heapq.heapify(queue)
    while queue:
        new = heapq.heappop(queue)
        pair = pair_of[new]
        first, second = pair[0], pair[1]
        for i in sorted(places.pop(new)):
            j = right[i]
            if tokens[i] != first or j == end or tokens[j] != second:
                continue
            tokens[i], tokens[j] = new, ""
            h, k = left[i], right[j]
            right[i] = k
            if k < end:
                left[k] = i
                _note(joined.get(new + tokens[k]), i, places, queue)
            if h >= 0:
                _note(joined.get(tokens[h] + new), h, places, queue)
    return "".join(tokens)


class Chain:
    """A very long word as a linked list of tokens, in which a merge touches only the positions of its pair.

    Each position holds a token and the positions of its two neighbors; a token that was merged away is "". `positions` lists where each
    pair was seen, in ascending order. A position whose tokens have changed since is passed over.

    Args:
        word: one character per token.
    """

    def __init__(self, word: str) -> None:
        end = len(word)
        self.tokens = list(word)
        self.left = array("q", range(-1, end - 1))
        self.right = array("q", range(1, end + 1))
        self.positions: dict[str, array[int]] = {}
        for i, pair in enumerate(pairs(word)):
            self._note(pair, i)

    def merge(self, pair: str, new: str) -> dict[str, int]:
        """Replace a pair by the token `new` from left to right; returns how much the count of each pair beside it has changed."""
        tokens, left, right = self.tokens, self.left, self.right
        first, second = pair[0], pair[1]
        end = len(tokens)
        changes: dict[str, int] = {}
        for i in self.positions.pop(pair, ()):
            j = right[i]
            if tokens[i] != first or j == end or tokens[j] != second:
                continue
            h, k = left[i], right[j]
            tokens[i], tokens[j] = new, ""
            right[i] = k
            if h >= 0:
                before = tokens[h]
                changes[before + first] = changes.get(before + first, 0) - 1
                changes[before + new] = changes.get(before + new, 0) + 1
                self._note(before + new, h)
            if k < end:
                left[k] = i
                after = tokens[k]
                changes[second + after] = changes.get(second + after, 0) - 1
                changes[new + after] = changes.get(new + after, 0) + 1
                self._note(new + after, i)
        return changes

    def _note(self, pair: str, position: int) -> None:
        """Remember that a pair is at a position."""
        found = self.positions.get(pair)
        if found is None:
            found = self.positions[pair] = array("q")
        found.append(position)


def _note(new: str | None, place: int, places: dict[str, list[int]], queue: list[str]) -> None:
    """Remember that the pair that makes `new` stands at `place`."""
    if new is None:
        return
    if new in places:
        places[new].append(place)
    else:
        places[new] = [place]
        heapq.heappush(queue, new)
