"""Apply BPE merges: words are strings with one character per token, so a merge is `str.replace`.

In a piece of text each byte is a token, numbered as in GPT-2 (`BYTES`); merge number i makes token
256 + i. A *word* is the string of `chr(number)` of its tokens, a *pair* is two such characters.
`merge_piece` is the rule of byte-pair encoding in two lines. `merge_long` gives the same result for
very long words. `Chain` is a very long word during training.
Tests: tests/tokenizers/test_merging.py.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Mapping
from operator import add

BYTES = bytes(
    [*range(33, 127), *range(161, 173), *range(174, 256), *range(33), *range(127, 161), 173]
)
"""The 256 bytes in the order of GPT-2's ids: printable ones first."""

FIRST_MERGE = 256
_SYMBOL_OF_BYTE = "".join(chr(BYTES.index(byte)) for byte in range(256))


def symbols(piece: bytes) -> str:
    """Convert bytes to a word of single-byte tokens: b"!" is `chr(0)`, the first in `BYTES`."""
    return piece.decode("latin-1").translate(_SYMBOL_OF_BYTE)


def pairs(word: str) -> map[str]:
    """The pairs of adjacent tokens in a word: "abc" has "ab" and "bc"."""
    return map(add, word, word[1:])


def merge_piece(word: str, joined: Mapping[str, str], pair_of: Mapping[str, str]) -> str:
    """Apply all merges to a word: repeatedly merge the pair that was learned first, everywhere.

    Merging all occurrences at once is exact:
    the new pairs contain the new token, so they were learned later.

    Args:
        word: one character per token.
        joined: pair -> merged token; a larger character was learned later.
        pair_of: merged token -> its pair.
    """
    while new := min(filter(None, map(joined.get, pairs(word))), default=""):
        word = word.replace(pair_of[new], new)
    return word


def merge_long(word: str, joined: Mapping[str, str], pair_of: Mapping[str, str]) -> str:
    """`merge_piece` for words of thousands of tokens, in about linear instead of quadratic time.

    The tokens form a linked list (`left`, `right`: the neighbors of a position), `positions` maps
    each merged token to the positions of its pair, and a heap yields the next merge. Positions
    whose tokens have changed are skipped.
    """
    tokens = list(word)
    end = len(tokens)
    left, right = list(range(-1, end - 1)), list(range(1, end + 1))
    positions: dict[str, list[int]] = {}
    for i, new in enumerate(map(joined.get, pairs(word))):
        if new:
            positions.setdefault(new, []).append(i)
    queue = list(positions)
    heapq.heapify(queue)
    while queue:
        new = heapq.heappop(queue)
        pair = pair_of[new]
        first, second = pair[0], pair[1]
        for i in sorted(positions.pop(new)):
            j = right[i]
            if tokens[i] != first or j == end or tokens[j] != second:
                continue
            tokens[i], tokens[j] = new, ""
            h, k = left[i], right[j]
            right[i] = k
            if k < end:
                left[k] = i
                _note(joined.get(new + tokens[k]), i, positions, queue)
            if h >= 0:
                _note(joined.get(tokens[h] + new), h, positions, queue)
    return "".join(tokens)


class Chain:
    """A very long word as a linked list of tokens: a merge touches only the positions of its pair.

    Each position holds a token and the positions of its two neighbors; a token that was merged away
    is "". `positions` lists the positions of each pair, ascending; those whose tokens have changed
    are skipped.

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
        """Replace a pair by `new`, left to right; returns changes in the counts of pairs."""
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
        """Add a position of a pair."""
        positions = self.positions.get(pair)
        if positions is None:
            positions = self.positions[pair] = array("q")
        positions.append(position)


def _note(
    new: str | None, position: int, positions: dict[str, list[int]], queue: list[str]
) -> None:
    """Add a position of the pair that merges into `new`."""
    if new is None:
        return
    if new in positions:
        positions[new].append(position)
    else:
        positions[new] = [position]
        heapq.heappush(queue, new)


class PieceCache(dict[str, tuple[int, ...]]):
    """Cache of the ids of units or pieces; cleared when full."""

    def __init__(self, encode: Callable[[str], tuple[int, ...]], limit: int = 1 << 18) -> None:
        self.encode, self.limit = encode, limit

    def __missing__(self, unit: str) -> tuple[int, ...]:
        ids = self.encode(unit)
        if len(unit) <= 64:
            if len(self) >= self.limit:
                self.clear()
            self[unit] = ids
        return ids
