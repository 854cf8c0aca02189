"""The first cut: text into small pieces that no token ever crosses.

GPT-2's pattern cuts before a space, between letters, digits and marks, so that "dog", "dog!" and "dog." share the token
for dog, and so that byte-pair encoding works on short pieces, each of which needs to be looked at only once.
Tests: tests/tokenizers/test_pretokens.py.
Source: GPT-2 (Radford et al. 2019), section 2.2.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from llm_scratch.errors import UserError, describe_error

if TYPE_CHECKING:
    pass

GPT2_PATTERN = r"""'(?:[stmd]|re|ve|ll)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""A contraction; or letters, digits, or marks with at most one space before; or white space, without the space of the next word."""

_ASCII = re.compile(  # the same pattern for text without other characters, of which Python's own `re` is twice as fast
    r"""'(?:[stmd]|re|ve|ll)| ?[A-Za-z]++| ?[0-9]++| ?[^\t-\r 0-9A-Za-z]++|[\t-\r ]++\Z|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]"""
)
_SAME_CUTS = {  # other spellings of GPT-2's pattern
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
}
_ANYTHING = r"|[\s\S]"  # ends every other pattern, so that no character is ever skipped

_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # Unicode's White_Space (Python's own \s has four more)
_UNIT = re.compile(rf"[{_SPACE}]*+[^{_SPACE}]++|[{_SPACE}]++")
_LAST_CUT = re.compile(rf"[\s\S]*[^{_SPACE}](?=[{_SPACE}])")
CHUNK = 1 << 20  # characters
MAX_BLANK = 200_000  # characters: tiktoken's engine overflows its stack on a million before a word


def same_pattern(pattern: str) -> str:
    """The one spelling used here for patterns that cut alike, with an alternative at the end that takes any character."""
    if pattern in _SAME_CUTS or pattern == GPT2_PATTERN:
        return GPT2_PATTERN
    return pattern if pattern.endswith(_ANYTHING) else pattern + _ANYTHING


class Splitter:
    """Cuts text into units, and units into pieces.

    A *piece* is one match of the pattern. A *unit* is what can be cut on its own with the same result: with GPT-2's
    pattern, the white space before a word and everything up to the next white space ("\\n\\nDon't!" holds "\\n", "\\n",
    "Don", "'t", "!"), because no piece of it has white space after something else. Units are found five times as fast as pieces
    and repeat as words do, so who remembers units rarely runs the pattern. For any other pattern a unit is a piece.

    Args:
        pattern: a regular expression as the `regex` library reads it.
    """

    def __init__(self, pattern: str = GPT2_PATTERN) -> None:
        self.pattern = same_pattern(pattern)
        self._is_gpt2 = self.pattern == GPT2_PATTERN

    @cached_property
    def _regex(self) -> Any:
        import regex

        try:
            return regex.compile(self.pattern)
        except regex.error as e:
            raise UserError(
                f"pattern {self.pattern!r} is not a regular expression: {describe_error(e)}; correct it, or leave it out"
            ) from None

    def units(self, text: str) -> list[str]:
        """The units of a text, in order; joined they are the text."""
        return _UNIT.findall(text) if self._is_gpt2 else self._cut(text)

    def pieces(self, unit: str) -> list[str]:
        """The pieces of a unit, in order; joined they are the unit."""
        if not self._is_gpt2:
            return [unit]
        return _ASCII.findall(unit) if unit.isascii() else self._cut(unit)

    def _cut(self, text: str) -> list[str]:
        if text.isascii() and not self._regex.groups:
            return self._regex.findall(text)
        return [text[slice(*match.span())] for match in self._regex.finditer(matches_engine(text))]

    def chunks(self, texts: Iterable[str], size: int = CHUNK) -> Iterator[str]:
        """Join the parts of one text and cut it, between units, into chunks of about `size` characters.

        Only GPT-2's pattern has a place where a cut is always safe; for another pattern the whole text is one chunk.
        """
        held: list[str] = []
        length, full = 0, size
        for text in texts:
            for start in range(0, len(text), size):
                held.append(text[start : start + size])
                length += len(held[-1])
                if length < full or not self._is_gpt2:
                    continue
                whole = "".join(held)
                cut = _LAST_CUT.match(whole)
                if cut:
                    yield cut.group()
                    held = [whole[cut.end() :]]
                else:
                    held = [whole]
                length = len(held[0])
                full = max(size, 2 * length)  # a word longer than a chunk is looked through again only when it has doubled
        if length:
            yield "".join(held)

    def count(self, texts: Iterable[str], processes: int = 1, tick: Callable[[int], object] = lambda n: None) -> Counter[str]:
        """How often each piece occurs in some texts.

        Args:
            texts: each text is cut by itself; they are read once, and never held all together.
            processes: more than one pays from about 100 MB of text on; the counts are the same.
            tick: called with how many characters have been counted since the last time, for a progress bar.
        """
        batches = self._batches(texts)
        total: Counter[str] = Counter()
        for counted, n in self._count_all(batches, processes):
            total.update(counted)
            tick(n)
        return total

    def _batches(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """The texts in lists of about four chunks, long texts cut between units."""
        batch: list[str] = []
        length = 0
        for text in texts:
            for part in [text] if len(text) <= CHUNK else self.chunks([text], CHUNK):
                batch.append(part)
                length += len(part)
                if length >= 4 * CHUNK:
                    yield batch
                    batch, length = [], 0
        if batch:
            yield batch

    def _count(self, batch: list[str]) -> tuple[Counter[str], int]:
        """How often each piece occurs in a batch, and how many characters it has."""
        units: Counter[str] = Counter()
        for text in batch:
            units.update(self.units(text))
        pieces: Counter[str] = Counter()
        for unit, n in units.items():
            for piece in self.pieces(unit):
                pieces[piece] += n
        return pieces, sum(map(len, batch))

    def _count_all(self, batches: Iterator[list[str]], processes: int) -> Iterator[tuple[Counter[str], int]]:
        """`_count` of each batch, in their order; in this process if others cannot start."""
        from llm_scratch.storage.worker_processes import worker_pool

        with worker_pool(processes) as pool:
            if pool is None:
                yield from map(self._count, batches)
                return
            waiting = deque(pool.submit(self._count, batch) for batch in islice(batches, 2 * processes))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(self._count, batch) for batch in islice(batches, 1))

    def __reduce__(self) -> tuple[type[Splitter], tuple[str]]:
        return Splitter, (self.pattern,)


_KINDS = {
    r"\p{L}": "\u00aa",
    r"\p{N}": "\u00bc",
    r"[^\s\p{L}\p{N}]": "\u00a7",
}  # a letter, a number, a mark that every version of Unicode knows
_BLOCK = 1024  # code points that are compared at once
_compared: set[int] = set()
_placeholders: dict[int, str] = {}


def matches_engine(text: str) -> str:
    """The text with stand-ins for characters of which the two regular-expression libraries think differently.

    Unicode grows each year, and Python's `regex` and the engine of tiktoken know different years: what is a letter to one
    is unassigned to the other. Such a character is replaced by one of the kind that the engine sees, so that both cut alike.
    """
    for block in {ord(character) // _BLOCK for character in text} - _compared:
        _compare(block)
    return text.translate(_placeholders) if _placeholders else text


def _compare(block: int) -> None:
    """Ask both libraries for the kind of each character in a block and note where they differ."""
    import regex

    characters = "".join(chr(i) for i in range(block * _BLOCK, (block + 1) * _BLOCK) if not 0xD800 <= i < 0xE000)
    for kind, stand_in in _KINDS.items():
        engine = bytes(_engine(kind).encode_ordinary(characters)).decode("utf-8")
        _placeholders.update({ord(character): stand_in for character in set(engine).difference(regex.findall(kind, characters))})
    _compared.add(block)


@lru_cache
def _engine(pattern: str) -> Any:
    """tiktoken with a vocabulary of bytes: it returns the bytes that the pattern matches."""
    import tiktoken

    return tiktoken.Encoding("bytes", pat_str=pattern, mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={})


def long_whitespace(text: str) -> bool:
    """Whether `MAX_BLANK` blanks may stand before a word: they would fill one of these blocks of half as many, and few texts have one."""
    block, length = MAX_BLANK // 2, len(text.rstrip()) if len(text) > MAX_BLANK else 0
    return any(text[i : i + block].isspace() for i in range(0, length - block + 1, block))
