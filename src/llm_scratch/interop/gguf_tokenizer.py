"""Read and write the tokenizer inside a GGUF file: byte-level BPE, or SentencePiece's BPE.

A byte-level BPE has the tokens in the order of their ids, the kind of each, the merges, and the
*name* of the pattern that splits text, because llama.cpp has each pattern as code. A pattern that
has no name there cannot be exported.
Tests: tests/interop/test_gguf.py, tests/interop/test_gguf_sentencepiece.py.
Source: https://github.com/ggml-org/llama.cpp (src/llama-vocab.cpp; include/llama.h,
`llama_token_type`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_scratch.errors import DATA, UserError, describe_error, unknown
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.interop.gguf_sentencepiece import (
    CONTROL,
    NORMAL,
    SENTENCEPIECE,
    UNUSED,
    USER_DEFINED,
    is_sentencepiece,
    sentencepiece_from,
    sentencepiece_metadata,
)
from llm_scratch.tokenizers import LibraryTokenizer, Tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.bpe_files import NotOurs, checked_parts, is_tiktoken, naming
from llm_scratch.tokenizers.patterns import PATTERNS
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.tokenizers.vocabulary import printable

WHOLE_PIECES = ("llama-bpe", "tekken")
"""Patterns with which llama.cpp takes a piece that is a token as it is, before any merge."""
KEY = "tokenizer.ggml."
OTHER_ENDS = ("eot_token_id", "eom_token_id")
"""Further tokens that end a generated text: of a turn, and of a message."""
CHAT_TEMPLATE = "tokenizer.chat_template"
BYTE_LEVEL = "gpt2"
"""llama.cpp's name of the kind, for every family that uses it."""


def exportable(tokenizer: Tokenizer) -> ByteBPE | LibraryTokenizer:
    """The tokenizer as one that a GGUF file can hold.

    Raises:
        UserError: llama.cpp has no tokenizer of that kind (code 2).
    """
    if is_tiktoken(tokenizer):
        return ByteBPE.from_tiktoken(tokenizer)
    if isinstance(tokenizer, LibraryTokenizer) and is_sentencepiece(tokenizer):
        return tokenizer
    if not isinstance(tokenizer, ByteBPE):
        raise UserError(
            f"a tokenizer of the class {type(tokenizer).__name__} cannot be exported to GGUF:"
            " llama.cpp has no tokenizer of that kind; train with --data.tokenizer bpe or gpt2"
        )
    if not tokenizer.merges:
        raise UserError(
            "a tokenizer without merges cannot be exported to GGUF: llama.cpp needs at least one;"
            " train with a larger vocabulary"
        )
    if tokenizer.splitter.pattern not in PATTERNS.values():
        raise UserError(
            f"the pattern {tokenizer.splitter.pattern!r} cannot be exported to GGUF: llama.cpp has"
            f" no name for it; it has names for {', '.join(PATTERNS)}"
        )
    return tokenizer


def tokenizer_metadata(
    tokenizer: ByteBPE | LibraryTokenizer, vocab_size: int, start_id: int | None
) -> dict[str, Any]:
    """The metadata of a tokenizer.

    Args:
        tokenizer: from `exportable`.
        vocab_size: of the model; the ids that the tokenizer lacks are marked as unused.
        start_id: the token before each text, or None.
    """
    eot = end_of_text(tokenizer)
    others = (tokenizer.special_tokens[name] for name in tokenizer.other_ends)
    values = {
        **(
            _byte_bpe_metadata(tokenizer, vocab_size)
            if isinstance(tokenizer, ByteBPE)
            else sentencepiece_metadata(tokenizer, vocab_size)
        ),
        "bos_token_id": eot if start_id is None else start_id,
        "eos_token_id": eot,
        **dict(zip(OTHER_ENDS, others)),
        "add_bos_token": start_id is not None,
    }
    named = {KEY + name: value for name, value in values.items()}
    named[CHAT_TEMPLATE] = tokenizer.chat_template
    return {name: value for name, value in named.items() if value is not None}


def _byte_bpe_metadata(tokenizer: ByteBPE, vocab_size: int) -> dict[str, Any]:
    """The metadata of a byte-level BPE, without the prefix."""
    rows = dict.fromkeys(range(vocab_size), ("", UNUSED))
    rows |= {i: (printable(token), NORMAL) for token, i in tokenizer.token_ids().items()}
    rows |= {i: (name, USER_DEFINED) for name, i in tokenizer.added_tokens.items()}
    rows |= {i: (name, CONTROL) for name, i in tokenizer.special_tokens.items()}
    names = {pattern: name for name, pattern in reversed(PATTERNS.items())}
    return {
        "model": BYTE_LEVEL,
        "pre": names[tokenizer.splitter.pattern],
        "tokens": [name or f"[UNUSED {i}]" for i, (name, _) in rows.items()],
        "token_type": [kind for _, kind in rows.values()],
        "merges": [f"{printable(left)} {printable(right)}" for left, right in tokenizer.merges],
    }


def tokenizer_from(file: GGUFFile) -> ByteBPE | LibraryTokenizer:
    """Read the tokenizer of a file.

    Raises:
        UserError: missing, damaged, or of an unsupported kind (code 3).
    """
    kind = file.metadata.get(KEY + "model")
    if kind not in (BYTE_LEVEL, SENTENCEPIECE):
        raise UserError(
            f"{file.path}: {KEY}model is {str(kind)[:40]!r}; expected {BYTE_LEVEL!r}, a byte-level"
            f" BPE, or {SENTENCEPIECE!r}, SentencePiece's BPE",
            DATA,
        )
    tokens = _list_of(file, "tokens", str)
    kinds = _list_of(file, "token_type", int, len(tokens))
    used = [token for token, kind in zip(tokens, kinds) if kind != UNUSED]
    if len(set(used)) < len(used):
        raise UserError(f"{file.path}: {KEY}tokens has a token twice; download it again", DATA)
    if kind == BYTE_LEVEL:
        tokenizer: ByteBPE | LibraryTokenizer = _byte_bpe_from(file, tokens, kinds)
    else:
        scores = _list_of(file, "scores", float, len(tokens))
        space_first = file.metadata.get(KEY + "add_space_prefix", True) is True
        with naming(file.path):
            tokenizer = LibraryTokenizer(sentencepiece_from(tokens, scores, kinds, space_first))
    end = file.metadata.get(KEY + "eos_token_id")
    names = {i: name for name, i in tokenizer.special_tokens.items()}
    if isinstance(end, int):
        tokenizer.end_of_text = names.get(end, tokenizer.end_of_text)
    others = [file.metadata.get(KEY + name) for name in OTHER_ENDS]
    tokenizer.other_ends = tuple(
        names[i] for i in others if isinstance(i, int) and i in names and i != end
    )
    template = file.metadata.get(CHAT_TEMPLATE)
    tokenizer.chat_template = template if isinstance(template, str) else None
    return tokenizer


def _byte_bpe_from(file: GGUFFile, tokens: Sequence[str], kinds: Sequence[int]) -> ByteBPE:
    """Read a byte-level BPE."""
    pre = file.metadata.get(KEY + "pre")
    if not isinstance(pre, str) or pre not in PATTERNS:
        raise unknown(f"{KEY}pre in {file.path}:", str(pre)[:40], PATTERNS, DATA)
    ids = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    named = {token: i for token, i in ids.items() if kinds[i] in (CONTROL, USER_DEFINED)}
    merges = [merge.split(" ") for merge in _list_of(file, "merges", str)]
    try:
        with naming(file.path):
            parts = checked_parts(ids, merges, named)
            parts["special_tokens"] = {name: i for name, i in named.items() if kinds[i] == CONTROL}
            added = {name: i for name, i in named.items() if kinds[i] == USER_DEFINED}
            whole = pre in WHOLE_PIECES
            return ByteBPE(**parts, added_tokens=added, pattern=PATTERNS[pre], whole_pieces=whole)
    except NotOurs as e:
        raise UserError(
            f"{file.path}: the tokenizer has {describe_error(e)}, which is not supported", DATA
        ) from e


def start_id_from(file: GGUFFile) -> int | None:
    """Return the token that a file puts before each text, or None.

    Without such a setting, SentencePiece's kind and the patterns of Llama 3 and Mistral have one.
    """
    value = file.metadata.get(KEY + "bos_token_id")
    kind, pre = (file.metadata.get(KEY + name) for name in ("model", "pre"))
    by_default = kind == SENTENCEPIECE or pre in WHOLE_PIECES
    adds = file.metadata.get(KEY + "add_bos_token", by_default)
    return value if adds is True and type(value) is int else None


def _list_of(file: GGUFFile, name: str, kind: type, length: int | None = None) -> list[Any]:
    """A list in the metadata; an error if it is missing, of another type or another length."""
    values = file.metadata.get(KEY + name)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise UserError(
            f"{file.path}: {KEY}{name} is missing or not a list of {kind.__name__}; download it"
            " again",
            DATA,
        )
    if length is not None and len(values) != length:
        raise UserError(
            f"{file.path}: {KEY}{name} has {len(values):,} elements, {KEY}tokens {length:,};"
            " download it again",
            DATA,
        )
    return values
