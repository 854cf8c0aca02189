"""Byte-pair encoding (BPE): encode any text to ids, decode any ids to bytes.

A text is UTF-8 bytes, and each of the 256 bytes is a token, so nothing is unknown. Training merges
the most frequent pairs of tokens into new tokens (`bpe_train.py`). Encoding a piece of text applies
these merges in the same order: `merging.merge_piece` is this rule. `encode_python` encodes in
Python, with two faster algorithms of the same result: `Vocabulary.longest_first` and, for long
pieces, `merging.merge_long`. `encode` uses tiktoken's engine, written in Rust, and returns the same
ids.
Tests: tests/tokenizers/test_bpe.py. Lesson: lessons/step1_text.py.
Source: GPT-2 (Radford et al. 2019), section 2.2; Sennrich et al. 2016,
https://arxiv.org/abs/1508.07909.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.ranges import check_in, count
from llm_scratch.tokenizers import bpe_files, tokenizer_json
from llm_scratch.tokenizers.bpe_train import learn_merges, train_merges
from llm_scratch.tokenizers.merging import PieceCache, merge_long, symbols
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN, Splitter, covering, long_whitespace
from llm_scratch.tokenizers.special import (
    END_OF_TEXT,
    check_names,
    encode_around,
    reject_special,
)
from llm_scratch.tokenizers.vocabulary import Vocabulary, bad_vocabulary

if TYPE_CHECKING:
    import tiktoken

MAX_VOCAB = 1_000_000
_LONG = 64  # bytes; `merge_long` is faster from this length on


class ByteBPE:
    """A byte-level BPE tokenizer: `train` or `load` one, or read GPT-2's with `from_gpt2_files`.

    Args:
        merges: pairs of byte strings in learned order; each half is a byte or the result of an
            earlier merge. `vocabulary.Vocabulary` lists the other requirements.
        special_tokens: names, which get the ids after all others; or name -> id.
        pattern: splits text into pieces; a regular expression that the `regex` library and tiktoken
            interpret the same way; or several, applied one after the other.
        ids: token bytes -> id (default: GPT-2's order, bytes as in `merging.BYTES`, then merges).
        name: a label.
        added_tokens: name -> id of tokens that are recognized in every text, as Qwen's `<think>`.
        unmerged: token bytes -> id of tokens that no merge makes.
        whole_pieces: whether a piece that is one of these becomes its id (tiktoken's way).
        nfc: normalize text to Unicode's NFC first.
        end_of_text: the special token that ends a document.
    Attributes:
        chat_template: how a chat is written, as a template of Jinja; None if unknown.
        other_ends: further special tokens that end a generated text.
    Raises:
        UserError: invalid merges, or two tokens share an id (code 3).
    """

    learn_merges = staticmethod(learn_merges)
    """the algorithm of `train`"""

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]] | Vocabulary,
        *,
        special_tokens: Sequence[str] | Mapping[str, int] = (END_OF_TEXT,),
        pattern: str | Sequence[str] = GPT2_PATTERN,
        ids: Mapping[bytes, int] | None = None,
        name: str = "bpe",
        added_tokens: Mapping[str, int] = {},
        unmerged: Mapping[bytes, int] = {},
        whole_pieces: bool = False,
        nfc: bool = False,
        end_of_text: str = END_OF_TEXT,
    ) -> None:
        self.name, self.end_of_text = name, end_of_text
        self.chat_template: str | None = None
        self.other_ends: tuple[str, ...] = ()
        self.splitter, self.nfc = Splitter(pattern), nfc
        self.added_tokens, self.unmerged = dict(added_tokens), dict(unmerged)
        self.whole_pieces = whole_pieces
        self.vocabulary = merges if isinstance(merges, Vocabulary) else Vocabulary(merges)
        symbol = self.vocabulary.symbol
        self._id = {
            s: i if ids is None else ids[token] for i, (token, s) in enumerate(symbol.items())
        }
        self._bytes = dict(zip(self._id.values(), symbol))
        if not isinstance(special_tokens, Mapping):
            special_tokens = {
                special: max(self._bytes) + 1 + i for i, special in enumerate(special_tokens)
            }
        check_names(special_tokens)
        self.special_tokens = dict(special_tokens)
        named = self.special_tokens | self.added_tokens
        self._bytes |= {i: token for token, i in self.unmerged.items()}
        self._bytes |= {i: token.encode() for token, i in named.items()}
        n_tokens = len(symbol) + len(self.unmerged) + len(named)
        if len(self._bytes) != n_tokens:
            raise UserError(
                f"{n_tokens} tokens have only {len(self._bytes)} ids; give each its own", DATA
            )
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
        """Train a vocabulary of `vocab_size` tokens: 256 bytes, merges, special tokens.

        Args:
            texts: documents, read once, in any order; `learn_merges` says how ties are broken.
            vocab_size: number of ids; a text too small for it gives fewer, with a warning.
            progress: draw a progress bar.
            processes: processes that count pieces, with the same merges; worthwhile from 100 MB
                on. A script that uses several needs `if __name__ == "__main__":`.
        """
        least = 256 + len(special_tokens)
        check_in("vocab_size", vocab_size, count(least, MAX_VOCAB, "of which 256 are bytes"))
        check_names(special_tokens)
        merges = train_merges(
            texts,
            vocab_size - least,
            Splitter(pattern),
            special_tokens,
            progress,
            processes,
            cls.learn_merges,
        )
        if (made := least + len(merges)) < vocab_size:
            warnings.warn(
                f"vocab_size={vocab_size}: the text has pairs for only {made} tokens;"
                " use more text",
                stacklevel=2,
            )
        return cls(merges, special_tokens=special_tokens, pattern=pattern, name=f"bpe-{made}")

    @classmethod
    def from_gpt2_files(
        cls, vocab_bpe: str | Path, encoder_json: str | Path, sha256: tuple[str, str] | None = None
    ) -> ByteBPE:
        """Load GPT-2's tokenizer, or another one in the two files of OpenAI's format.

        Args:
            vocab_bpe: one merge per line, in learned order.
            encoder_json: token -> id.
            sha256: expected hashes of the files, in hex; `bpe_files.GPT2_SHA256` are OpenAI's.
        Raises:
            UserError: the files are damaged, disagree, or are not byte-level BPE (code 3).
        """
        return cls(**bpe_files.read_gpt2(vocab_bpe, encoder_json, sha256), name="gpt2")

    @classmethod
    def from_tiktoken(cls, encoding: tiktoken.Encoding) -> ByteBPE:
        """Convert a tiktoken encoding; its merges are reconstructed from the ranks."""
        return cls(**bpe_files.from_ranks(encoding), name=encoding.name)

    @classmethod
    def load(cls, path: str | Path) -> ByteBPE:
        """Load a byte-level BPE in the `tokenizer.json` format, from the file or its folder."""
        data, path = tokenizer_json.read_tokenizer_json(path)
        try:
            return cls(**tokenizer_json.from_json(data, path))
        except bpe_files.NotOurs as e:
            raise bad_vocabulary(
                f"{path} is not plain byte-level BPE: it has {describe_error(e)}"
            ) from None

    def save(self, path: str | Path) -> None:
        """Save as `tokenizer.json` in a folder, or to a path that ends in .json.

        The `tokenizers` library reads the file and returns the same ids.
        """
        data = tokenizer_json.to_json(
            self.merges,
            self.token_ids(),
            self.splitter.patterns,
            special=self.special_tokens,
            added=self.added_tokens,
            nfc=self.nfc,
            whole_pieces=self.whole_pieces,
        )
        tokenizer_json.write_tokenizer_json(path, data)

    def token_ids(self) -> dict[bytes, int]:
        """The bytes of each token, except special and added ones -> its id."""
        merged = {token: self._id[s] for token, s in self.vocabulary.symbol.items()}
        return merged | self.unmerged

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The bytes of both halves of each merge, in learned order."""
        return self.vocabulary.merges

    @property
    def n_vocab(self) -> int:
        """Number of ids: the largest id plus one."""
        return max(self._bytes) + 1

    @property
    def eot_token(self) -> int:
        """The id of the token that ends a document, such as `<|endoftext|>`."""
        if self.end_of_text not in self.special_tokens:
            raise UserError(
                f"this tokenizer has no {self.end_of_text}; train it with"
                f" special_tokens=({self.end_of_text!r},)",
                DATA,
            )
        return self.special_tokens[self.end_of_text]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any text; a lone surrogate, which UTF-8 cannot encode, becomes U+FFFD.
            allowed_special: special tokens to recognize in the text,
                or "all"; others are encoded as plain text.
            disallowed_special: special tokens, or "all",
                that raise a ValueError if the text has them.
        """
        return self._around_special(text, allowed_special, disallowed_special, self.encode_ordinary)

    def encode_python(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Encode as `encode` does, in readable Python: split into pieces, merge, look up ids."""
        return self._around_special(
            text, allowed_special, disallowed_special, self._encode_in_python
        )

    def encode_ordinary(self, text: str) -> list[int]:
        """Encode a text without recognizing special or added tokens."""
        text = self._normalized(text)
        if self._engine is None or long_whitespace(text):
            return self._encode_in_python(text)
        try:
            return self._engine.encode_ordinary(text)
        except BaseException as panic:
            # Rust's own kind: with some patterns the engine overflows on a very long piece
            if type(panic).__name__ != "PanicException":
                raise
            return self._encode_in_python(text)

    def encode_iterable(
        self,
        texts: Iterable[str],
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
    ) -> Iterator[int]:
        """Encode one text that comes in parts, such as the lines of a file, in bounded memory.

        The ids are those of `encode("".join(texts))`.

        A pattern other than GPT-2's has no safe place to cut the text,
        so the memory is that of the text.
        """
        for chunk in self.splitter.chunks(texts):
            yield from self.encode(chunk, allowed_special=allowed_special)

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Decode ids to text; bytes that are not UTF-8 become U+FFFD, depending on `errors`."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to bytes. Unused ids below `n_vocab` give none; others raise a ValueError."""
        return b"".join(self.decode_tokens_bytes(ids))

    def decode_tokens_bytes(self, ids: Iterable[int]) -> list[bytes]:
        """The bytes of each id."""
        ids = list(ids)
        try:
            return [self._bytes[i] for i in ids]
        except KeyError as missing:
            (i,) = missing.args
            if not 0 <= i < self.n_vocab:
                raise ValueError(
                    f"id {i} is not in this vocabulary of {self.n_vocab} tokens"
                ) from None
        return [self._bytes.get(i, b"") for i in ids]

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id."""
        return self.decode_tokens_bytes([token])[0]

    def _around_special(
        self,
        text: str,
        allowed: Literal["all"] | AbstractSet[str],
        disallowed: Literal["all"] | Collection[str],
        encode: Callable[[str], list[int]],
    ) -> list[int]:
        """Encode the text between special tokens, and insert the ids of the allowed ones."""
        special = self.special_tokens
        chosen = special.keys() if allowed == "all" else special.keys() & allowed
        reject_special(text, special.keys() - chosen if disallowed == "all" else disallowed)
        known = {**self.added_tokens, **{name: special[name] for name in chosen}}
        return encode_around(text, known, encode)

    def _normalized(self, text: str) -> str:
        """The text in the normalization that the vocabulary was trained on."""
        return unicodedata.normalize("NFC", text) if self.nfc else text

    def _encode_in_python(self, text: str) -> list[int]:
        text = self._normalized(text)
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(chain.from_iterable(map(self._units.__getitem__, self.splitter.units(text))))

    def _encode_unit(self, unit: str) -> tuple[int, ...]:
        """Encode a unit, piece by piece."""
        pieces, known = self.splitter.pieces(unit), self._pieces
        if len(pieces) == 1:
            return known[unit]
        return tuple(chain.from_iterable(map(known.__getitem__, pieces)))

    def _encode_piece(self, piece: str) -> tuple[int, ...]:
        """Encode a piece."""
        vocabulary = self.vocabulary
        data = piece.encode()
        token = vocabulary.symbol.get(data)
        if token is not None:
            return (self._id[token],)
        if self.whole_pieces and data in self.unmerged:
            return (self.unmerged[data],)
        if len(data) < _LONG:
            word = vocabulary.longest_first(data)
        else:
            word = merge_long(symbols(data), vocabulary.joined, vocabulary.pair_of)
        return tuple(map(self._id.__getitem__, word))

    def clear_cache(self) -> None:
        """Clear the caches of `encode_python` (about 100 MB at most)."""
        self._units = PieceCache(self._encode_unit)
        self._pieces = PieceCache(self._encode_piece)

    @cached_property
    def _engine(self) -> Any:
        """Return tiktoken's engine with this vocabulary, or None where it cannot be used.

        Its ranks are ids, so ids must be in merge order; and it must be able to express the
        pattern.
        """
        import tiktoken

        pattern = self.splitter.pattern
        if not isinstance(pattern, str) or (self.whole_pieces and self.unmerged):
            return None
        order = [self._id[new] for new in self.vocabulary.pair_of]
        if order != sorted(order):
            return None
        ranks = {token: self._id[s] for token, s in self.vocabulary.symbol.items()}
        try:
            return tiktoken.Encoding(
                self.name,
                pat_str=covering(pattern),
                mergeable_ranks=ranks,
                special_tokens=self.special_tokens,
            )
        except ValueError as e:
            raise UserError(
                f"tiktoken cannot parse the pattern {pattern!r}: {describe_error(e)};"
                " use syntax that regex and tiktoken share"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        caches = ("_engine", "_units", "_pieces")
        return {key: value for key, value in self.__dict__.items() if key not in caches}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.clear_cache()
