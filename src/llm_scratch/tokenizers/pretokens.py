"""Pre-tokenization: split text into short pieces that no token crosses.

GPT-2's pattern splits before a space and between letters, digits and marks, so that "dog", "dog!"
and "dog." share the token for dog. Byte-pair encoding then works on short pieces, each of which is
encoded only once.
Tests: tests/tokenizers/test_pretokens.py.
Source: GPT-2 (Radford et al. 2019), section 2.2.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

from llm_scratch.errors import UserError, describe_error

GPT2_PATTERN = (
    r"""'(?:[stmd]|re|ve|ll)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
)
"""A contraction; letters, digits or marks, after a space or none; or white space.

White space is without the space of the next word.
"""

# the same pattern for ASCII text, for which Python's own `re` is twice as fast
_ASCII = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]++| ?[0-9]++| ?[^\t-\r 0-9A-Za-z]++"
    r"|[\t-\r ]++\Z|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]"
)
_SAME_CUTS = {  # other spellings of GPT-2's pattern
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
}
_ANYTHING = r"|[\s\S]"  # ends patterns that older versions of this project wrote

_SPACE = (  # Unicode's White_Space (Python's own \s has four more)
    "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
)
_UNIT = re.compile(rf"[{_SPACE}]*+[^{_SPACE}]++|[{_SPACE}]++")
_LAST_CUT = re.compile(rf"[\s\S]*[^{_SPACE}](?=[{_SPACE}])")
CHUNK = 1 << 20  # characters
MAX_WHITESPACE = (
    200_000  # characters; tiktoken's engine overflows its stack on a million before a word
)


def same_pattern(pattern: str) -> str:
    """Normalize a pattern: one spelling for those that split as GPT-2's."""
    return GPT2_PATTERN if pattern in _SAME_CUTS else pattern


def covering(pattern: str) -> str:
    """Extend a pattern so that it matches everything.

    Text between two of its matches becomes one piece.
    """
    if pattern == GPT2_PATTERN or pattern.endswith(_ANYTHING):
        return pattern
    return rf"{pattern}|(?:(?!{pattern})[\s\S])+"


class Splitter:
    """Split text into units, and units into pieces.

    A *piece* is one match of the pattern. A *unit* is a part of the text that can be split on its
    own with the same result. With GPT-2's pattern that is the white space before a word and
    everything up to the next white space ("\\n\\nDon't!" contains "\\n", "\\n", "Don", "'t", "!"),
    because no piece has white space after another character. Units are found five times as fast as
    pieces and repeat like words, so with a cache of units the pattern rarely runs. For any other
    pattern a unit is a piece.

    Args:
        pattern: a regular expression as the `regex` library reads it; or several, each of which
            splits the pieces of the one before. What a pattern does not match is a piece too.
    Attributes:
        pattern: the same; a tuple if there are several.
    """

    def __init__(self, pattern: str | Sequence[str] = GPT2_PATTERN) -> None:
        several = (pattern,) if isinstance(pattern, str) else tuple(pattern)
        patterns = tuple(map(same_pattern, several))
        self.pattern = patterns[0] if len(patterns) == 1 else patterns
        self._is_gpt2 = self.pattern == GPT2_PATTERN

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in the order in which they split."""
        return (self.pattern,) if isinstance(self.pattern, str) else self.pattern

    @cached_property
    def _regexes(self) -> list[Any]:
        return [_compiled(pattern) for pattern in self.patterns]

    def units(self, text: str) -> list[str]:
        """Split a text into units, in order."""
        return _UNIT.findall(text) if self._is_gpt2 else self._cut(text)

    def pieces(self, unit: str) -> list[str]:
        """Split a unit into pieces, in order."""
        if not self._is_gpt2:
            return [unit]
        return _ASCII.findall(unit) if unit.isascii() else self._cut(unit)

    def _cut(self, text: str) -> list[str]:
        pieces = [text]
        for regex in self._regexes:
            pieces = [part for piece in pieces for part in _split(regex, piece)]
        return pieces

    def chunks(self, texts: Iterable[str], size: int = CHUNK) -> Iterator[str]:
        """Regroup the parts of one text into chunks of about `size` characters, between units.

        Only GPT-2's pattern has positions where a split is always safe;
        with another pattern the whole text is one chunk.
        """
        buffer: list[str] = []
        length = 0
        full = size
        for text in texts:
            for start in range(0, len(text), size):
                buffer.append(text[start : start + size])
                length += len(buffer[-1])
                if length < full or not self._is_gpt2:
                    continue
                whole = "".join(buffer)
                cut = _LAST_CUT.match(whole)
                if cut:
                    yield cut.group()
                    buffer = [whole[cut.end() :]]
                else:
                    buffer = [whole]
                length = len(buffer[0])
                # search a word longer than a chunk again only once it has doubled
                full = max(size, 2 * length)
        if length:
            yield "".join(buffer)

    def count(
        self,
        texts: Iterable[str],
        processes: int = 1,
        tick: Callable[[int], object] = lambda n: None,
    ) -> Counter[str]:
        """Count the pieces of texts.

        Args:
            texts: split separately, read once, and never all in memory.
            processes: several are worthwhile from about 100 MB of text on; the counts are the same.
            tick: called with the number of newly counted characters, for a progress bar.
        """
        batches = self._batches(texts)
        total: Counter[str] = Counter()
        for counted, n in self._count_all(batches, processes):
            total.update(counted)
            tick(n)
        return total

    def _batches(self, texts: Iterable[str]) -> Iterator[list[str]]:
        """Group texts into lists of about four chunks, with long texts split between units."""
        batch: list[str] = []
        length = 0
        for text in texts:
            for part in [text] if len(text) <= CHUNK else self.chunks([text], CHUNK):
                batch.append(part)
                length += len(part)
                if length >= 4 * CHUNK:
                    yield batch
                    batch = []
                    length = 0
        if batch:
            yield batch

    def _count(self, batch: list[str]) -> tuple[Counter[str], int]:
        """Count the pieces and characters of a batch."""
        units: Counter[str] = Counter()
        for text in batch:
            units.update(self.units(text))
        pieces: Counter[str] = Counter()
        for unit, n in units.items():
            for piece in self.pieces(unit):
                pieces[piece] += n
        return pieces, sum(map(len, batch))

    def _count_all(
        self, batches: Iterator[list[str]], processes: int
    ) -> Iterator[tuple[Counter[str], int]]:
        """`_count` of each batch, in order; in this process if workers cannot start."""
        from llm_scratch.storage.worker_processes import worker_pool

        with worker_pool(processes) as pool:
            if pool is None:
                yield from map(self._count, batches)
                return
            queue = deque(
                pool.submit(self._count, batch) for batch in islice(batches, 2 * processes)
            )
            while queue:
                yield queue.popleft().result()
                queue.extend(pool.submit(self._count, batch) for batch in islice(batches, 1))

    def __reduce__(self) -> tuple[type[Splitter], tuple[str | tuple[str, ...]]]:
        return Splitter, (self.pattern,)


def _compiled(pattern: str) -> Any:
    import regex

    try:
        return regex.compile(covering(pattern))
    except regex.error as e:
        raise UserError(
            f"pattern {pattern!r} is not a regular expression: {describe_error(e)}; correct or"
            " remove it"
        ) from None


def _split(regex: Any, text: str) -> list[str]:
    """The matches of a pattern that covers the text."""
    if text.isascii() and not regex.groups:
        return regex.findall(text)
    return [text[slice(*match.span())] for match in regex.finditer(matches_engine(text))]


_KINDS = {
    r"\p{L}": "\u00aa",
    r"\p{N}": "\u00bc",
    r"[^\s\p{L}\p{N}]": "\u00a7",
}  # character class -> a letter, number or mark that is in every version of Unicode
_BLOCK = 1024  # code points compared at once
_compared: set[int] = set()
_placeholders: dict[int, str] = {}


def matches_engine(text: str) -> str:
    """Replace characters that `regex` and tiktoken's engine classify differently.

    The two libraries implement different versions of Unicode: a letter in one is unassigned in the
    other. Such a character is replaced by one of the engine's class, so that both split equally.
    """
    for block in {ord(character) // _BLOCK for character in text} - _compared:
        _compare(block)
    return text.translate(_placeholders) if _placeholders else text


def _compare(block: int) -> None:
    """Compare how both libraries classify the characters of a block, and record the differences."""
    import regex

    characters = "".join(
        chr(i) for i in range(block * _BLOCK, (block + 1) * _BLOCK) if not 0xD800 <= i < 0xE000
    )
    for kind, stand_in in _KINDS.items():
        engine = bytes(_engine(kind).encode_ordinary(characters)).decode("utf-8")
        _placeholders.update(
            {
                ord(character): stand_in
                for character in set(engine).difference(regex.findall(kind, characters))
            }
        )
    _compared.add(block)


@lru_cache
def _engine(pattern: str) -> Any:
    """tiktoken with a vocabulary of bytes: encoding returns the bytes that the pattern matches."""
    import tiktoken

    return tiktoken.Encoding(
        "bytes",
        pat_str=pattern,
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={},
    )


def long_whitespace(text: str) -> bool:
    """Whether a text may have a run of `MAX_WHITESPACE` white-space characters before a word.

    Such a run fills one of the aligned blocks of half its length, so only these are checked.
    """
    block = MAX_WHITESPACE // 2
    length = len(text.rstrip()) if len(text) > MAX_WHITESPACE else 0
    return any(text[i : i + block].isspace() for i in range(0, length - block + 1, block))
