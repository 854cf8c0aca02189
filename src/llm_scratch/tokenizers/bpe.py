"""Byte-pair encoding: any text as a short list of ids, any list of ids back as bytes.

A text is UTF-8 bytes, and each of the 256 bytes is a token, so nothing is ever unknown. Pairs of tokens that occurred often in
the training text were made tokens of their own (`bpe_train.py`), the most frequent first. Encoding a piece of text repeats these
merges in the same order: that rule is `merging.merge_piece`. `encode_python` is the way from text to ids; it reaches what the rule gives
by two shorter ways, `Vocabulary.longest_first` and, for long pieces, `merging.merge_long`, which tests hold to it.
`encode` hands the same work to tiktoken's engine, which is written in Rust, and gives the same ids.
Tests: tests/tokenizers/test_bpe.py. Lesson: lessons/step1_text.py.
Source: GPT-2 (Radford et al. 2019), section 2.2; Sennrich et al. 2016, https://arxiv.org/abs/1508.07909.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.ranges import check_in, count
from llm_scratch.tokenizers import bpe_files
from llm_scratch.tokenizers.bpe_train import train_merges
from llm_scratch.tokenizers.merging import merge_long, symbols
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN, Splitter, long_whitespace
from llm_scratch.tokenizers.special import END_OF_TEXT, reject_special, special_pattern
from llm_scratch.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tiktoken

MAX_VOCAB = 1_000_000
_LONG = 64  # bytes: from here on `merge_long` is the faster way


class ByteBPE:
    """A byte-level BPE tokenizer: `train` one, `load` one, or take GPT-2's by `from_gpt2_files`.

    Args:
        merges: pairs of byte strings, the first learned first; each half is a byte or was made by an earlier merge.
            `vocabulary.Vocabulary` says what else is asked of them.
        special_tokens: names, which get the ids after all others; or name -> id.
        pattern: cuts text into pieces; a regular expression on which the `regex` library and tiktoken agree.
        ids: the id of each token's bytes, if it is not GPT-2's order: bytes as in `merging.BYTES`, then merges.
        name: for people.
    Raises:
        UserError: the merges are not a vocabulary, or two tokens share an id (code 3).
    """

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]] | Vocabulary,
        *,
        special_tokens: Sequence[str] | Mapping[str, int] = (END_OF_TEXT,),
        pattern: str = GPT2_PATTERN,
        ids: Mapping[bytes, int] | None = None,
        name: str = "bpe",
    ) -> None:
        self.name = name
        self.splitter = Splitter(pattern)
        self.vocabulary = merges if isinstance(merges, Vocabulary) else Vocabulary(merges)
        symbol = self.vocabulary.symbol
        self._id = {s: i if ids is None else ids[token] for i, (token, s) in enumerate(symbol.items())}
        self._bytes = dict(zip(self._id.values(), symbol))
        if not isinstance(special_tokens, Mapping):
            special_tokens = {special: max(self._bytes) + 1 + i for i, special in enumerate(special_tokens)}
        _check_special(special_tokens)
        self.special_tokens = dict(special_tokens)
        self._bytes.update({i: special.encode() for special, i in special_tokens.items()})
        if len(self._bytes) != len(symbol) + len(special_tokens):
            raise UserError(f"{len(symbol) + len(special_tokens)} tokens have only {len(self._bytes)} ids; give each its own", DATA)
        self.clear_cache()

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        pattern: str = GPT2_PATTERN,
        progress: bool = False,
        processes: int = 1,
    ) -> ByteBPE:
        """Learn a vocabulary of `vocab_size` tokens: 256 bytes, merges, special tokens.

        Args:
            texts: documents, read once. Equal texts in any order give equal merges; `bpe_train.learn_merges` states the rule for ties.
            vocab_size: how many ids there shall be. A text too small for it gives a smaller vocabulary and a warning.
            progress: draw a bar while pieces are counted and merges learned.
            processes: count pieces in so many processes; pays from about 100 MB on. The merges are the same. More than one asks a
                script for `if __name__ == "__main__":`, as each imports it.
        """
        least = 256 + len(special_tokens)
        check_in("vocab_size", vocab_size, count(least, MAX_VOCAB, "of which 256 are bytes"))
        _check_special(special_tokens)
        merges = train_merges(texts, vocab_size - least, Splitter(pattern), special_tokens, progress, processes)
        if (made := least + len(merges)) < vocab_size:
            warnings.warn(f"the text has pairs for {made} tokens only, vocab_size={vocab_size} was asked; use more text", stacklevel=2)
        return cls(merges, special_tokens=special_tokens, pattern=pattern, name=f"bpe-{made}")

    @classmethod
    def from_gpt2_files(cls, vocab_bpe: str | Path, encoder_json: str | Path, sha256: tuple[str, str] | None = None) -> ByteBPE:
        """GPT-2's tokenizer, or one in the same two files, as OpenAI published them.

        Args:
            vocab_bpe: one merge a line, the first learned first.
            encoder_json: token -> id.
            sha256: what the files must have, in hex digits; `bpe_files.GPT2_SHA256` are OpenAI's.
        Raises:
            UserError: the files are damaged, disagree, or are not byte-level BPE (code 3).
        """
        return cls(**bpe_files.read_gpt2(vocab_bpe, encoder_json, sha256), name="gpt2")

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> ByteBPE:
        """The same vocabulary as a tiktoken encoding; its merges are found again from the ranks."""
        return cls(**bpe_files.from_ranks(encoding), name=encoding.name)

    @classmethod
    def load(cls, path: str | Path) -> ByteBPE:
        """Read a `tokenizer.json` of the `tokenizers` library's byte-level BPE, or the folder that holds one."""
        return cls(**bpe_files.from_json(*bpe_files.read_tokenizer_json(path)))

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json` into a folder, or to a path that ends in .json; the `tokenizers` library reads it and gives equal ids."""
        ids = {token: self._id[s] for token, s in self.vocabulary.symbol.items()}
        data = bpe_files.to_json(self.merges, ids, self.special_tokens, self.splitter.pattern)
        bpe_files.write_tokenizer_json(path, data)

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The bytes of both halves of each merge, the first learned first."""
        return self.vocabulary.merges

    @property
    def n_vocab(self) -> int:
        """How many ids a model needs: the largest id plus one."""
        return max(self._bytes) + 1

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        if END_OF_TEXT not in self.special_tokens:
            raise UserError(f"this tokenizer has no {END_OF_TEXT}; train it with special_tokens=({END_OF_TEXT!r},)", DATA)
        return self.special_tokens[END_OF_TEXT]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any text; half a surrogate pair, which UTF-8 cannot write, becomes U+FFFD.
            allowed_special: special tokens, or "all", that become their id where the text spells them. Else they are text like any other.
            disallowed_special: special tokens, or "all", whose spelling in the text is an error (ValueError).
        """
        return self._around_special(text, allowed_special, disallowed_special, self.encode_ordinary)

    def encode_python(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """The ids of `encode`, by Python code that can be read: cut into pieces, merge each, look up the ids."""
        return self._around_special(text, allowed_special, disallowed_special, self._encode_in_python)

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text in which special tokens have no meaning."""
        if self._engine is None or long_whitespace(text):
            return self._encode_in_python(text)
        try:
            return self._engine.encode_ordinary(text)
        except BaseException as panic:  # Rust's own kind: with some patterns the engine overflows on a very long piece
            if type(panic).__name__ != "PanicException":
                raise
            return self._encode_in_python(text)

    def encode_iterable(self, texts: Iterable[str], *, allowed_special: Literal["all"] | AbstractSet[str] = frozenset()) -> Iterator[int]:
        """The ids of one text that comes in parts, such as the lines of a file: those of `encode("".join(texts))`, in bounded memory.

        With a pattern other than GPT-2's there is no place where the text can safely be cut, and the memory is that of the text.
        """
        for chunk in self.splitter.chunks(texts):
            yield from self.encode(chunk, allowed_special=allowed_special)

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Turn ids into text; bytes that are not UTF-8 (half a character) become U+FFFD unless `errors` says otherwise."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids into bytes. An id that no token has, in a gap below `n_vocab`, gives none; one outside is a ValueError."""
        return b"".join(self.decode_tokens_bytes(ids))

    def decode_tokens_bytes(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each id."""
        ids = list(ids)
        try:
            return [self._bytes[i] for i in ids]
        except KeyError as missing:
            (i,) = missing.args
            if not 0 <= i < self.n_vocab:
                raise ValueError(f"id {i} is not in this vocabulary of {self.n_vocab} tokens") from None
        return [self._bytes.get(i, b"") for i in ids]

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id."""
        return self.decode_tokens_bytes([token])[0]

    def _around_special(
        self,
        text: str,
        allowed: Literal["all"] | AbstractSet[str],
        refused: Literal["all"] | Collection[str],
        encode: Callable[[str], list[int]],
    ) -> list[int]:
        """Encode the text between special tokens; where one is allowed, put its id."""
        names = self.special_tokens.keys() if allowed == "all" else self.special_tokens.keys() & allowed
        reject_special(text, self.special_tokens.keys() - names if refused == "all" else refused)
        if not any(name in text for name in names):
            return encode(text)
        ids: list[int] = []
        for i, part in enumerate(special_pattern(names).split(text)):
            ids += [self.special_tokens[part]] if i % 2 else encode(part)
        return ids

    def _encode_in_python(self, text: str) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(chain.from_iterable(map(self._units.__getitem__, self.splitter.units(text))))

    def _encode_unit(self, unit: str) -> tuple[int, ...]:
        """The ids of a unit, piece by piece."""
        pieces, known = self.splitter.pieces(unit), self._pieces
        return known[unit] if len(pieces) == 1 else tuple(chain.from_iterable(map(known.__getitem__, pieces)))

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        """The ids of a piece."""
        known, data = self.vocabulary, piece.encode()
        if (token := known.symbol.get(data)) is not None:
            return (self._id[token],)
        word = known.longest_first(data) if len(data) < _LONG else merge_long(symbols(data), known.joined, known.pair_of)
        return tuple(map(self._id.__getitem__, word))

    def clear_cache(self) -> None:
        """Forget the ids of what was met before, which `encode_python` remembers (some 100 MB at most)."""
        self._units, self._pieces = _PieceCache(self._encode_unit), _PieceCache(self._encode_piece)

    @cached_property
    def _engine(self) -> Any:
        """tiktoken with this vocabulary; None where ids do not rise with the merges, because its ranks are ids."""
        import tiktoken

        order = [self._id[new] for new in self.vocabulary.pair_of]
        if order != sorted(order):
            return None
        ranks = {token: self._id[s] for token, s in self.vocabulary.symbol.items()}
        pattern = self.splitter.pattern
        try:
            return tiktoken.Encoding(self.name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.special_tokens)
        except ValueError as e:
            raise UserError(
                f"tiktoken cannot read the pattern {pattern!r}: {describe_error(e)}; write it so that both regex and tiktoken can"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_engine", "_units", "_pieces")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.clear_cache()


class _PieceCache(dict[str, tuple[int, ...]]):
    """Ids of units or pieces met before; it starts afresh when it is full."""

    def __init__(self, encode: Callable[[str], tuple[int, ...]], limit: int = 1 << 18) -> None:
        self.encode, self.limit = encode, limit

    def __missing__(self, unit: str) -> tuple[int, ...]:
        ids = self.encode(unit)
        if len(unit) <= 64:
            if len(self) >= self.limit:
                self.clear()
            self[unit] = ids
        return ids


def _check_special(names: Iterable[str]) -> None:
    for name in names:
        if not name or any(character.isspace() for character in name):
            raise UserError(f"the special token {name!r} must be a name without spaces, such as {END_OF_TEXT!r}")
