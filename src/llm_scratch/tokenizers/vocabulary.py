"""BPE vocabulary: number the tokens, and validate the merges.

A merge is valid if its halves exist, its result is new, and it can occur. `Vocabulary` checks these
three conditions for every list of merges, because files are untrusted.
Tests: tests/tokenizers/test_vocabulary.py.
Source: bytes as printable characters:
https://github.com/openai/gpt-2 (src/encoder.py, `bytes_to_unicode`).
"""

from __future__ import annotations

from collections.abc import Iterable

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.merging import BYTES, FIRST_MERGE

_PRINTING = 188  # printable bytes; the others are written as the characters from U+0100 on
_CHARACTERS = [
    chr(byte) if i < _PRINTING else chr(256 + i - _PRINTING) for i, byte in enumerate(BYTES)
]
_BYTE = dict(zip(_CHARACTERS, BYTES))
_WRITE = {byte: character for character, byte in _BYTE.items()}


class Vocabulary:
    """Numbered byte tokens: the 256 bytes in the order of `BYTES`, then the result of each merge.

    Args:
        merges: pairs of byte strings in learned order.
    Attributes:
        merges: the same pairs, as a list.
        symbol: a token's bytes -> its character; `chr(256 + i)` is the result of merge number i.
        joined, pair_of: pair of characters -> merged character, and back.
    Raises:
        UserError: a merge uses an unknown token (a circle, a gap),
            repeats a token, or can never occur (code 3).
    """

    def __init__(self, merges: Iterable[tuple[bytes, bytes]]) -> None:
        self.merges: list[tuple[bytes, bytes]] = []
        self.symbol = {bytes([byte]): chr(i) for i, byte in enumerate(BYTES)}
        self.joined: dict[str, str] = {}
        self.pair_of: dict[str, str] = {}
        for left, right in merges:
            self.add(left, right)

    def add(self, left: bytes, right: bytes) -> None:
        """Validate and append a merge."""
        n = len(self.merges)
        token = left + right
        new = chr(FIRST_MERGE + n)
        for half in (left, right):
            if half not in self.symbol:
                raise bad_vocabulary(
                    f"merge {n + 1} uses {printable(half)!r},"
                    " which is neither a byte nor the result of an earlier merge"
                )
        if token in self.symbol:
            raise bad_vocabulary(f"merge {n + 1} makes {printable(token)!r}, which already exists")
        pair = self.symbol[left] + self.symbol[right]
        if not self._can_meet(*pair):
            raise bad_vocabulary(
                f"merge {n + 1}, {printable(left)!r} and {printable(right)!r}, can never occur:"
                " earlier merges group its bytes differently"
            )
        self.merges.append((left, right))
        self.symbol[token] = new
        self.joined[pair] = new
        self.pair_of[new] = pair

    def can_meet(self, left: bytes, right: bytes) -> bool:
        """Whether two tokens are ever neighbors under the merges so far."""
        return self._can_meet(self.symbol[left], self.symbol[right])

    def longest_first(self, piece: bytes) -> str:
        """Encode a piece in one pass, with the same result as `merging.merge_piece`.

        Takes the longest next token that can follow the previous one (`_can_meet`); if there is
        none, backtracks and replaces the previous token by a shorter one.

        Exact: consider the first merge across a boundary between two of the tokens. Until then both
        tokens evolve as in that pair alone, where `_can_meet` excludes such a merge. So each prefix
        has one tokenization, and an offset that led nowhere (`dead`) is never tried again.
        Source: https://github.com/github/rust-gems, crate `bpe`.
        """
        symbol = self.symbol
        end = len(piece)
        word = ""
        starts: list[int] = []
        dead: set[int] = set()
        start = 0
        cut = end
        while start < end:
            token = None
            while cut > start:
                token = symbol.get(piece[start:cut])
                if token and cut not in dead and (not word or self._can_meet(word[-1], token)):
                    break
                cut -= 1
            if cut > start and token:
                word += token
                starts.append(start)
                start = cut
                cut = end
            else:
                dead.add(start)
                cut = start - 1
                start = starts.pop()
                word = word[:-1]
        return word

    def _can_meet(self, left: str, right: str) -> bool:
        """Whether the concatenated bytes of two tokens encode to exactly these two tokens.

        Each token alone does, so only a merge *across* the boundary could prevent it. The tokens at
        the boundary are known at any time: going backward, the token that was merged last splits
        into its halves, one of which is at the boundary. `now` is the next merge in this order.
        Among equal adjacent tokens ("aaa") the left pair is merged first, hence the two different
        values of `now`.

        Because every token is reachable, tiktoken's engine, which compares bytes, returns the ids
        of these merges: if the bytes of two adjacent tokens are a token, these two are its halves.
        """
        joined, pair_of = self.joined, self.pair_of
        now = "\U0010ffff"
        while True:
            if joined.get(left + right, now) < now:
                return False
            if left > right:
                if left not in pair_of:
                    return True
                now, left = left, pair_of[left][1]
            elif right in pair_of:
                now, right = chr(ord(right) + 1), pair_of[right][0]
            else:
                return True


def printable(token: bytes) -> str:
    """Format a token's bytes as GPT-2 writes them: b" the" is "Ġthe"."""
    return token.decode("latin-1").translate(_WRITE)


def unprintable(name: str) -> bytes:
    """Parse a token in GPT-2's spelling of bytes: "Ġthe" is b" the"."""
    try:
        return bytes(map(_BYTE.__getitem__, name))
    except (KeyError, TypeError):
        raise bad_vocabulary(f"{name!r} is not a token in GPT-2's spelling of bytes") from None


def bad_vocabulary(reason: str) -> UserError:
    """Make the error for an invalid vocabulary."""
    return UserError(
        f"damaged or unsupported vocabulary: {reason};"
        " download the file again, or train a tokenizer",
        DATA,
    )
