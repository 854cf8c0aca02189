"""How a tokenizer cuts a text: pieces, bytes, and the merges that make tokens of them.

Tests: tests/serving/test_pieces.py (the last step of every piece is what the tokenizer returns).
"""

from __future__ import annotations

from typing import Any

MAX_STEPS = 40
"""Merges of a piece that are listed; a longer piece shows the last step only."""


def pieces(tokenizer: Any, text: str) -> dict[str, Any]:
    """The pieces of a text, each with its merges from single bytes to tokens.

    A tokenizer without merges (characters) has one step a piece.
    """
    if not hasattr(tokenizer, "merges") or not hasattr(tokenizer, "splitter"):
        ids = tokenizer.encode(text, disallowed_special=())
        whole = {
            "text": text,
            "bytes": len(text.encode()),
            "steps": [[_shown(tokenizer.decode_bytes([i])) for i in ids]],
            "ids": ids,
        }
        return {"pieces": [whole]}
    ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
    found = []
    for unit in tokenizer.splitter.units(text):
        for piece in tokenizer.splitter.pieces(unit):
            data = piece.encode("utf-8", "replace")
            steps, merged = merge_steps(data, ranks)
            found.append(
                {
                    "text": piece,
                    "bytes": len(data),
                    "steps": [[_shown(part) for part in step] for step in steps],
                    "merges": [
                        {"rank": rank, "text": _shown(left + right)} for rank, left, right in merged
                    ],
                    "ids": tokenizer.encode(piece, disallowed_special=()),
                }
            )
    return {"pieces": found}


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
