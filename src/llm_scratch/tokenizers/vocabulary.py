"""When is a list of merges a vocabulary? When each merge uses what is there, makes something new, and can really happen.

`Vocabulary` numbers the tokens and holds every list to these three conditions, whoever made it: a file may come from a stranger.
Tests: tests/tokenizers/test_vocabulary.py.
Source: bytes as printable characters: https://github.com/openai/gpt-2 (src/encoder.py, `bytes_to_unicode`).
"""

from __future__ import annotations

from collections.abc import Iterable

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.merging import BYTES, FIRST_MERGE

_PRINTING = 188  # bytes that print; the others are written as the characters from U+0100 on
_CHARACTERS = [chr(byte) if i < _PRINTING else chr(256 + i - _PRINTING) for i, byte in enumerate(BYTES)]
_BYTE = dict(zip(_CHARACTERS, BYTES))
_WRITE = {byte: character for character, byte in _BYTE.items()}


class Vocabulary:
    """Tokens of bytes, numbered: the 256 bytes in the order of `BYTES`, then what each merge makes.

    Args:
        merges: pairs of byte strings, the first learned first.
    Attributes:
        merges: the same pairs, as a list.
        symbol: a token's bytes -> its character; `chr(256 + i)` is made by merge number i.
        joined, pair_of: pair of characters -> the character that it makes, and back.
    Raises:
        UserError: a merge uses what nothing earlier makes (a circle, a gap), makes a token again, or can never happen (code 3).
    """

    def __init__(self, merges: Iterable[tuple[bytes, bytes]]) -> None:
        self.merges: list[tuple[bytes, bytes]] = []
        self.symbol = {bytes([byte]): chr(i) for i, byte in enumerate(BYTES)}
        self.joined: dict[str, str] = {}
        self.pair_of: dict[str, str] = {}
        for left, right in merges:
            self.add(left, right)

    def add(self, left: bytes, right: bytes) -> None:
        """Take in the next merge, if it meets the three conditions."""
        n = len(self.merges)
        token, new = left + right, chr(FIRST_MERGE + n)
        for half in (left, right):
            if half not in self.symbol:
                raise bad_vocabulary(f"merge {n + 1} uses {printable(half)!r}, which is no byte and is made by no earlier merge")
        if token in self.symbol:
            raise bad_vocabulary(f"merge {n + 1} makes {printable(token)!r}, which is there already")
        pair = self.symbol[left] + self.symbol[right]
        if not self._can_meet(*pair):
            raise bad_vocabulary(
                f"merge {n + 1}, {printable(left)!r} and {printable(right)!r}, never happens: earlier merges part its bytes otherwise"
            )
        self.merges.append((left, right))
        self.symbol[token] = new
        self.joined[pair], self.pair_of[new] = new, pair

    def longest_first(self, piece: bytes) -> str:
        """The merged word of a piece, as `merging.merge_piece` makes it, in one walk along the piece instead of a walk for each merge.

        The longest token that stands next and can meet the one before is taken; where nothing can follow, the one before is given up
        for a shorter one. Exact: let some merge across a border between two of the tokens be the first. Then both of them were as they
        are in that pair alone, in which, as `_can_meet` says, no such merge comes. So each beginning of the piece has one way only, and one
        that led nowhere (`dead`) is never tried again. Source: https://github.com/github/rust-gems, crate `bpe`.
        """
        symbol, end = self.symbol, len(piece)
        word, starts, dead = "", [], set()
        start, cut = 0, end
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
                start, cut = cut, end
            else:
                dead.add(start)
                word, start, cut = word[:-1], starts.pop(), start - 1
        return word

    def _can_meet(self, left: str, right: str) -> bool:
        """Whether the bytes of two tokens, side by side, become these two tokens under the merges so far.

        Each half on its own does. So only merges *across* the border could prevent it, and what stands at the border when is known: going
        back in time, the token that was made last falls into its halves, of which one is at the border. `now` is the merge that
        comes next. Where the halves are equal tokens in a row ("aaa"), the left pair goes first, hence the two different `now`.

        That every token can be made is what lets tiktoken's engine, which looks at bytes alone, give the ids of these merges: where the
        bytes of two neighbours are a token, they are the two that make it.
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
    """A token's bytes as GPT-2 writes them: b" the" is "Ġthe"."""
    return token.decode("latin-1").translate(_WRITE)


def unprintable(name: str) -> bytes:
    """The bytes of a token as GPT-2 writes it: "Ġthe" is b" the"."""
    try:
        return bytes(map(_BYTE.__getitem__, name))
    except (KeyError, TypeError):
        raise bad_vocabulary(f"{name!r} is not a token in GPT-2's spelling of bytes") from None


def bad_vocabulary(why: str) -> UserError:
    """The error for a vocabulary that cannot be used."""
    return UserError(f"damaged or foreign vocabulary: {why}; fetch the file again, or train a tokenizer", DATA)
