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

from llm_scratch.errors import DATA, UserError, describe_error, unknown
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.bpe_files import NotOurs, checked_parts, naming
from llm_scratch.tokenizers.patterns import PATTERNS
from llm_scratch.tokenizers.special import END_OF_TEXT, end_of_text
from llm_scratch.tokenizers.vocabulary import printable

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens: of the vocabulary, special, added, no token."""
WHOLE_PIECES = ("llama-bpe", "tekken")
"""Patterns with which llama.cpp takes a piece that is a token as it is, before any merge."""
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
    rows = dict.fromkeys(range(vocab_size), ("", UNUSED))
    rows |= {i: (printable(token), NORMAL) for token, i in tokenizer.token_ids().items()}
    rows |= {i: (name, USER_DEFINED) for name, i in tokenizer.added_tokens.items()}
    rows |= {i: (name, CONTROL) for name, i in tokenizer.special_tokens.items()}
    names = {pattern: name for name, pattern in reversed(PATTERNS.items())}
    eot = end_of_text(tokenizer)
    values = {
        "model": "gpt2",
        "pre": names[tokenizer.splitter.pattern],
        "tokens": [name or f"[UNUSED {i}]" for i, (name, _) in rows.items()],
        "token_type": [kind for _, kind in rows.values()],
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
    try:
        with naming(file.path):
            parts = checked_parts(ids, merges, special)
    except NotOurs as e:
        raise UserError(
            f"{file.path}: the tokenizer has {describe_error(e)}, which is not supported", DATA
        ) from e
    added = {token: i for token, i in special.items() if kinds[i] == USER_DEFINED}
    end: Any = file.metadata.get(KEY + "eos_token_id")
    control = {i: token for token, i in special.items() if token not in added}
    return ByteBPE(
        **parts
        | {"special_tokens": {token: i for i, token in control.items()}, "added_tokens": added},
        pattern=PATTERNS[values["pre"]],
        whole_pieces=values["pre"] in WHOLE_PIECES,
        end_of_text=control.get(end, END_OF_TEXT),
    )


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
