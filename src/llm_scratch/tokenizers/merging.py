"""Words as strings with one character per token, so that merging a pair is `str.replace`.

In a piece of text each byte is a token, numbered as in GPT-2 (`BYTES`); merge number i makes token 256 + i. A *word* here is the
string of `chr(number)` of its tokens, and a *pair* is two such characters. Read `merge_piece`: it is the rule of byte-pair
encoding in two lines. `merge_long` gives the same result for very long words.
Proof: tests/tokenizers/test_merging.py.
"""

from __future__ import annotations

import heapq
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


def _note(new: str | None, place: int, places: dict[str, list[int]], queue: list[str]) -> None:
    """Remember that the pair that makes `new` stands at `place`."""
    if new is None:
        return
    if new in places:
        places[new].append(place)
    else:
        places[new] = [place]
        heapq.heappush(queue, new)
