"""Convert SentencePiece's BPE (Llama 2, Mistral, Gemma) to and from the metadata of GGUF files.

A file has the pieces and their scores instead of merges: of two neighbors, those whose joined piece
has the highest score are merged first. A `tokenizer.json` lists the same as merges in order, so a
score is the position of a merge in the list.
Tests: tests/interop/test_gguf_sentencepiece.py, tests/interop/test_llama_cpp.py.
Source: https://github.com/ggml-org/llama.cpp (src/llama-vocab.cpp, `llm_tokenizer_spm`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_scratch.tokenizers.library import SPACE, LibraryTokenizer

SENTENCEPIECE = "llama"
"""llama.cpp's name of the kind, for every family that uses it."""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens: a piece, the unknown one, special, added, no token, a byte."""
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
BACK = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
PREPEND = {"type": "Prepend", "prepend": SPACE}
SPLIT = {"type": "Split", "pattern": {"String": " "}}
"""Gemma's pre-tokenizer, which finds nothing: spaces are replaced before."""
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def is_sentencepiece(tokenizer: LibraryTokenizer) -> bool:
    """Return whether a tokenizer is BPE over characters with bytes for unknown ones."""
    model = tokenizer.data["model"]
    plain = tokenizer.data.get("normalizer") in (_normalizer(False), _normalizer(True))
    before = tokenizer.data.get("pre_tokenizer")
    unsplit = before is None or SPLIT.items() <= before.items()
    return model.get("type") == "BPE" and bool(model.get("byte_fallback")) and plain and unsplit


def sentencepiece_metadata(tokenizer: LibraryTokenizer, vocab_size: int) -> dict[str, Any]:
    """The metadata of the pieces, without the prefix `tokenizer.ggml.`."""
    model = tokenizer.data["model"]
    rank: dict[str, int] = {}
    for n, merge in enumerate(model["merges"]):
        rank.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), n)
    rows: dict[int, tuple[str, float, int]] = {
        i: (f"[UNUSED {i}]", 0.0, UNUSED) for i in range(vocab_size)
    }
    for piece, i in model["vocab"].items():
        kind = BYTE if piece.startswith("<0x") and len(piece) == 6 else NORMAL
        kind = UNKNOWN if piece == model.get("unk_token") else kind
        rows[i] = (piece, -float(rank.get(piece, len(rank))), kind)
    for token in tokenizer.data.get("added_tokens") or []:
        if token["content"] != model.get("unk_token"):
            kind = CONTROL if token["special"] else USER_DEFINED
            rows[token["id"]] = (token["content"], 0.0, kind)
    pieces, scores, kinds = zip(*(rows[i] for i in range(vocab_size)))
    return {
        "model": SENTENCEPIECE,
        "tokens": list(pieces),
        "scores": list(scores),
        "token_type": list(kinds),
        "add_space_prefix": tokenizer.data["normalizer"] == _normalizer(True),
    }


def sentencepiece_from(
    tokens: Sequence[str], scores: Sequence[float], kinds: Sequence[int], space_first: bool
) -> dict[str, Any]:
    """The content of a `tokenizer.json` with these pieces.

    Args:
        tokens, scores, kinds: of each id.
        space_first: whether a space is put before a text.
    """
    vocab = {token: i for i, token in enumerate(tokens) if kinds[i] != UNUSED}
    names = {i: kinds[i] for i in vocab.values() if kinds[i] in (UNKNOWN, CONTROL, USER_DEFINED)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": i, "content": tokens[i], **flags, "special": kind != USER_DEFINED}
        for i, kind in names.items()
    ]
    unknown = next((tokens[i] for i, kind in names.items() if kind == UNKNOWN), None)
    steps = [BACK, {"type": "ByteFallback"}, {"type": "Fuse"}, *([STRIP] if space_first else [])]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": _normalizer(space_first),
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": _merges(vocab, scores, kinds),
        },
    }


def _merges(
    vocab: Mapping[str, int], scores: Sequence[float], kinds: Sequence[int]
) -> list[list[str]]:
    """Every way to make a piece of two others, the highest score first."""
    pieces = [(piece, i) for piece, i in vocab.items() if kinds[i] == NORMAL]
    pieces.sort(key=lambda row: (-scores[row[1]], row[1]))
    return [
        [piece[:at], piece[at:]]
        for piece, _ in pieces
        for at in range(1, len(piece))
        if piece[:at] in vocab and piece[at:] in vocab
    ]


def _normalizer(space_first: bool) -> dict[str, Any]:
    if not space_first:
        return REPLACE
    return {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}
