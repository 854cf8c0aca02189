"""Tokenizers: text to ids and back. `TOKENIZERS` maps names to them; add your own with one line.

    words   words and punctuation marks, for teaching             words.py
    chars   characters: a small vocabulary, long sequences        chars.py
    bpe     byte-pair encoding trained on your text               bpe.py, bpe_train.py
    gpt2    the pretrained tokenizer of GPT-2                     gpt2.py

Tests: tests/tokenizers/test_table.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Literal, Protocol

from llm_scratch.errors import DATA, UserError, describe_error, unknown
from llm_scratch.tokenizers import bpe_files, tokenizer_json
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.char_files import from_word_level
from llm_scratch.tokenizers.chars import CharTokenizer
from llm_scratch.tokenizers.companion import read_companion, write_companion
from llm_scratch.tokenizers.gpt2 import N_VOCAB, load_gpt2
from llm_scratch.tokenizers.library import LibraryTokenizer
from llm_scratch.tokenizers.special import END_OF_TEXT
from llm_scratch.tokenizers.words import (
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    build_vocab,
    split_words,
)

__all__ = [
    "TOKENIZERS",
    "ByteBPE",
    "CharTokenizer",
    "LibraryTokenizer",
    "SimpleTokenizerV1",
    "SimpleTokenizerV2",
    "Tokenizer",
    "build_vocab",
    "decoding_every_id",
    "load_tokenizer",
    "save_tokenizer",
    "split_words",
]


class Tokenizer(Protocol):
    """Interface of tokenizers for training, decoding and evaluation, as tiktoken's have it."""

    @property
    def n_vocab(self) -> int:
        """Number of ids: the vocabulary size a model needs."""
        ...

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`, which separates documents."""
        ...

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = ...,
        disallowed_special: Literal["all"] | Collection[str] = ...,
    ) -> list[int]:
        """Encode a text to ids."""
        ...

    def decode(self, tokens: Any, /) -> str:
        """Decode ids to text."""
        ...

    def decode_bytes(self, tokens: Any, /) -> bytes:
        """Decode ids to bytes; unlike text, bytes can end in the middle of a character."""
        ...


def _chars(texts: Iterable[str], vocab_size: int | None = None) -> Tokenizer:
    tokenizer = CharTokenizer.train(texts)
    if vocab_size not in (None, tokenizer.n_vocab):
        raise UserError(
            f"vocab_size={vocab_size}:"
            f" no effect with chars, whose size for this text is {tokenizer.n_vocab}; remove it"
        )
    return tokenizer


def train_bpe(
    texts: Iterable[str], vocab_size: int | None = None, cls: type[ByteBPE] = ByteBPE
) -> Tokenizer:
    """Train a byte-level BPE of a class; the default size is 4,096 tokens."""
    return cls.train(texts, 4096 if vocab_size is None else vocab_size)


def _gpt2(texts: Iterable[str] = (), vocab_size: int | None = None) -> Tokenizer:
    if vocab_size not in (None, N_VOCAB):
        raise UserError(
            f"vocab_size={vocab_size}: no effect with gpt2, which has {N_VOCAB} tokens;"
            " remove it, or use bpe"
        )
    return load_gpt2()


TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "words": SimpleTokenizerV2.train,
    "chars": _chars,
    "bpe": train_bpe,
    "gpt2": _gpt2,
}
"""Name -> function of (texts, vocab_size or None) that makes a tokenizer."""


def save_tokenizer(tokenizer: Tokenizer, folder: str | Path) -> None:
    """Save a tokenizer as `tokenizer.json` in a folder, atomically.

    bpe and gpt2 use the format of the `tokenizers` library, words and chars one of this project.
    """
    if isinstance(tokenizer, (SimpleTokenizerV1, CharTokenizer)):
        tokenizer_json.write_tokenizer_json(
            folder, {"version": "1.0", "model": tokenizer.to_json()}
        )
    elif isinstance(tokenizer, (ByteBPE, LibraryTokenizer)):
        tokenizer.save(folder)
        is_usual = tokenizer.end_of_text == END_OF_TEXT and not tokenizer.other_ends
        if not is_usual or tokenizer.chat_template is not None:
            write_companion(tokenizer, folder)
    elif bpe_files.is_tiktoken(tokenizer):
        ByteBPE.from_tiktoken(tokenizer).save(folder)
    elif callable(save := getattr(tokenizer, "save", None)):
        save(folder)
    else:
        raise UserError(
            f"cannot save a {type(tokenizer).__name__}: no method save(folder); add one", DATA
        )


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Load a tokenizer that `save_tokenizer` or Hugging Face's libraries wrote.

    Byte-level BPE runs here, SentencePiece's kinds in the `tokenizers` library.

    Args:
        folder: a folder with a `tokenizer.json`, or the path of the file; a tokenizer_config.json
            and a chat template beside it are read too.
    Raises:
        UserError: missing, damaged, or of an unsupported type (code 3).
    """
    data, path = tokenizer_json.read_tokenizer_json(folder)
    kind = str(data["model"].get("type", "BPE"))
    if kind not in MODEL_TYPES:
        raise unknown(f"tokenizer model in {path}:", kind, MODEL_TYPES, DATA, extensible=True)
    tokenizer = MODEL_TYPES[kind](data, path)
    if isinstance(tokenizer, (ByteBPE, LibraryTokenizer)):
        read_companion(tokenizer, path.parent)
    return tokenizer


def decoding_every_id(tokenizer: Tokenizer) -> Tokenizer:
    """Replace a tiktoken encoding with gaps in its ids (cl100k_base, o200k_base) by a ByteBPE.

    A model can generate any id below `n_vocab`. tiktoken raises an error for an id in a gap;
    ByteBPE decodes it to the empty text.
    """
    if not bpe_files.is_tiktoken(tokenizer):
        return tokenizer
    n_tokens = len(
        tokenizer._mergeable_ranks.keys() | {name.encode() for name in tokenizer._special_tokens}
    )
    return ByteBPE.from_tiktoken(tokenizer) if n_tokens < tokenizer.n_vocab else tokenizer


def _read_own(cls: Any) -> Callable[[dict[str, Any], Path], Tokenizer]:
    def read(data: dict[str, Any], path: Path) -> Tokenizer:
        try:
            return cls.from_json(data["model"])
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise UserError(
                f"{path} is damaged ({describe_error(e, named=True)}); train the tokenizer again",
                DATA,
            ) from None

    return read


def read_bpe(data: dict[str, Any], path: Path, cls: type[ByteBPE] = ByteBPE) -> Tokenizer:
    """Read a BPE: byte-level of a class where that gives the same ids, else the library's."""
    try:
        return cls(**tokenizer_json.from_json(data, path))
    except bpe_files.NotOurs:
        return _read_with_library(data, path)


def _read_with_library(data: dict[str, Any], path: Path) -> Tokenizer:
    with bpe_files.naming(path):
        tokenizer_json.prefix_id(data, path)
        return LibraryTokenizer(data)


MODEL_TYPES: dict[str, Callable[[dict[str, Any], Path], Tokenizer]] = {
    "BPE": read_bpe,
    "Unigram": _read_with_library,
    "words": _read_own(SimpleTokenizerV2),
    "words-v1": _read_own(SimpleTokenizerV1),
    "chars": _read_own(CharTokenizer),
    "WordLevel": from_word_level,
}
"""Model "type" in a `tokenizer.json` -> function of (content, path) that makes the tokenizer."""
