"""How tokenizers cut a text: pieces, bytes, and the merges that make tokens of them.

Tests: tests/serving/test_pieces.py (the last step of every piece is what the tokenizer returns).
"""

from __future__ import annotations

import unicodedata
from typing import Any

from llm_scratch.tokenizers.gpt2 import N_VOCAB, load_gpt2, on_this_machine

MAX_STEPS = 40
"""Merges of a piece that are listed; a longer piece shows the last step only."""
MAX_BYTES = 1000
"""Of a piece whose merges are searched, which takes the square of its length."""


def pieces(tokenizer: Any, text: str) -> dict[str, Any]:
    """The pieces of a text, each with its merges from single bytes to tokens.

    A tokenizer without merges (characters) has one step a piece.
    """
    if not hasattr(tokenizer, "merges") or not hasattr(tokenizer, "splitter"):
        return {
            "pieces": [
                {
                    "text": text,
                    "bytes": len(text.encode()),
                    "steps": [_tokens(tokenizer, text)],
                    "ids": tokenizer.encode(text, disallowed_special=()),
                }
            ]
        }
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    if getattr(tokenizer, "nfc", False):
        text = unicodedata.normalize("NFC", text)
    entries = []
    for unit in tokenizer.splitter.units(text):
        for piece in tokenizer.splitter.pieces(unit):
            data = piece.encode("utf-8", "replace")
            ids = tokenizer.encode(piece, disallowed_special=())
            tokens = [tokenizer.decode_bytes([i]) for i in ids]
            steps, merged = merge_steps(data if len(data) <= MAX_BYTES else b"", ranks)
            if steps[-1] != tokens:  # too long, or a tokenizer that does more than merge
                steps, merged = [tokens], []
            entries.append(
                {
                    "text": piece,
                    "bytes": len(data),
                    "steps": [[_shown(part) for part in step] for step in steps],
                    "merges": [
                        {"rank": rank, "text": _shown(left + right)} for rank, left, right in merged
                    ],
                    "ids": ids,
                }
            )
    return {"pieces": entries}


def compare_tokenizers(tokenizer: Any, text: str) -> list[dict[str, Any]]:
    """The tokens of a text by this tokenizer, by GPT-2's, and by one that has every character.

    GPT-2's is used where it is on this machine; `tokens` is None elsewhere.
    """
    gpt2 = _tokens(load_gpt2(), text) if on_this_machine() else None
    return [
        {"name": "this model", "n_vocab": tokenizer.n_vocab, "tokens": _tokens(tokenizer, text)},
        {"name": "GPT-2", "n_vocab": N_VOCAB, "tokens": gpt2},
        {"name": "characters", "n_vocab": len(set(text)), "tokens": list(text)},
    ]


def _tokens(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer.encode(text, disallowed_special=())
    return [_shown(tokenizer.decode_bytes([i])) for i in ids]


Ranks = dict[tuple[bytes, bytes], int]


def merge_steps(
    data: bytes, ranks: Ranks
) -> tuple[list[list[bytes]], list[tuple[int, bytes, bytes]]]:
    """Merge the pair that was learned first, again and again: (parts after each, merges)."""
    parts = [bytes([byte]) for byte in data]
    steps, merged = [parts], []
    while True:
        known = [(ranks[pair], pair) for pair in zip(parts, parts[1:]) if pair in ranks]
        if not known:
            break
        rank, (left, right) = min(known)
        parts = _merged(parts, left, right)
        steps.append(parts)
        merged.append((rank, left, right))
    return (steps, merged) if len(steps) <= MAX_STEPS else (steps[-1:], [])


def _merged(parts: list[bytes], left: bytes, right: bytes) -> list[bytes]:
    result: list[bytes] = []
    for part in parts:
        if part == right and result and result[-1] == left:
            result[-1] = left + right
        else:
            result.append(part)
    return result


def _shown(part: bytes) -> str:
    """Bytes as text; a part of a character as hexadecimal."""
    try:
        return part.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in part)
