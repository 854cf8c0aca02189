"""The tokenizer inside a GGUF file: a byte-level BPE as metadata, both ways.

A file has the tokens in the order of their ids, the kind of each, the merges, and the *name* of the
pattern that splits text, because llama.cpp has each pattern as code. A pattern that has no name
there cannot be exported.
Tests: tests/interop/test_gguf_tokenizer.py.
Source: https://github.com/ggml-org/llama.cpp (src/llama-vocab.cpp; include/llama.h,
`llama_token_type`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from llm_scratch.errors import DATA, UserError, unknown
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.bpe_files import checked_parts, naming
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.tokenizers.vocabulary import printable

PATTERNS = {"gpt-2": GPT2_PATTERN}
"""tokenizer.ggml.pre -> the pattern; of several names for one, the first is written."""
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens: of the vocabulary, special, added, no token."""
KEY = "tokenizer.ggml."


def as_byte_bpe(tokenizer: Tokenizer) -> ByteBPE:
    """The tokenizer as a byte-level BPE.

    Raises:
        UserError: it is of another kind, which a GGUF file cannot hold (code 2).
    """
    if hasattr(tokenizer, "_mergeable_ranks"):
        return ByteBPE.from_tiktoken(cast(Any, tokenizer))
    if not isinstance(tokenizer, ByteBPE):
        raise UserError(
            f"a tokenizer of the class {type(tokenizer).__name__} cannot be exported to GGUF:"
            " llama.cpp has no tokenizer of that kind; train with --data.tokenizer bpe or gpt2"
        )
    if tokenizer.splitter.pattern not in PATTERNS.values():
        raise UserError(
            f"the pattern {tokenizer.splitter.pattern!r} cannot be exported to GGUF:"
            f" llama.cpp has no name for it; it has names for {', '.join(PATTERNS)}"
        )
    return tokenizer


def tokenizer_metadata(tokenizer: ByteBPE, vocab_size: int, start_id: int | None) -> dict[str, Any]:
    """The metadata of a tokenizer.

    Args:
        tokenizer: the tokenizer.
        vocab_size: of the model; the ids that the tokenizer lacks are marked as unused.
        start_id: the token before each text, or None.
    """
    special = {i: name for name, i in tokenizer.special_tokens.items()}
    tokens, kinds = [], []
    for i in range(vocab_size):
        text = tokenizer.token_bytes(i) if i < tokenizer.n_vocab else b""
        tokens.append(special.get(i) or printable(text) or f"[UNUSED {i}]")
        kinds.append(CONTROL if i in special else NORMAL if text else UNUSED)
    names = {pattern: name for name, pattern in reversed(PATTERNS.items())}
    eot = end_of_text(tokenizer)
    values = {
        "model": "gpt2",
        "pre": names[tokenizer.splitter.pattern],
        "tokens": tokens,
        "token_type": kinds,
        "merges": [f"{printable(left)} {printable(right)}" for left, right in tokenizer.merges],
        "bos_token_id": eot if start_id is None else start_id,
        "eos_token_id": eot,
        "add_bos_token": start_id is not None,
    }
    return {KEY + name: value for name, value in values.items() if value is not None}


def tokenizer_from(file: GGUFFile) -> ByteBPE:
    """Read the tokenizer of a file.

    Raises:
        UserError: missing, damaged, or of an unsupported kind (code 3).
    """
    values = {name: file.metadata.get(KEY + name) for name in ("model", "pre")}
    if values["model"] != "gpt2":
        raise UserError(
            f"{file.path}: {KEY}model is {str(values['model'])[:40]!r};"
            " expected 'gpt2', a byte-level BPE",
            DATA,
        )
    if values["pre"] not in PATTERNS:
        raise unknown(f"{KEY}pre in {file.path}:", str(values["pre"])[:40], PATTERNS, DATA)
    tokens = _list_of(file, "tokens", str)
    kinds = _list_of(file, "token_type", int)
    if len(kinds) != len(tokens):
        raise UserError(
            f"{file.path}: {KEY}token_type has {len(kinds):,} elements,"
            f" {KEY}tokens {len(tokens):,}; download it again",
            DATA,
        )
    ids = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    if len(ids) != sum(kind != UNUSED for kind in kinds):
        raise UserError(f"{file.path}: {KEY}tokens has a token twice; download it again", DATA)
    special = {token: i for token, i in ids.items() if kinds[i] in (CONTROL, USER_DEFINED)}
    merges = [merge.split(" ") for merge in _list_of(file, "merges", str)]
    with naming(file.path):
        return ByteBPE(**checked_parts(ids, merges, special), pattern=PATTERNS[values["pre"]])


def start_id_from(file: GGUFFile) -> int | None:
    """The token that a file puts before each text, or None."""
    value = file.metadata.get(KEY + "bos_token_id")
    adds: Mapping[str, Any] = file.metadata
    return value if adds.get(KEY + "add_bos_token") is True and type(value) is int else None


def _list_of(file: GGUFFile, name: str, kind: type) -> list[Any]:
    """A list in the metadata; an error if it is missing or of another type."""
    values = file.metadata.get(KEY + name)
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise UserError(
            f"{file.path}: {KEY}{name} is missing or not a list of {kind.__name__};"
            " download it again",
            DATA,
        )
    return values
