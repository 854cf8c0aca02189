"""Special tokens: ids that ordinary text cannot produce by spelling them.

`<|endoftext|>` separates documents. If untrusted text could produce it, it could end the document,
so every tokenizer encodes such a spelling as plain text unless the caller allows it.
Tests: tests/tokenizers/test_special.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from llm_scratch.errors import UserError

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unk|>"


def special_pattern(names: Collection[str]) -> re.Pattern[str]:
    """Compile a pattern for `names`, longest first; its group keeps them in `pattern.split`."""
    return re.compile(
        "("
        + "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))
        + ")"
    )


def check_names(names: Iterable[str]) -> None:
    """Check the names of special tokens.

    Raises:
        UserError: an empty name, or one with a space.
    """
    for name in names:
        if not name or any(character.isspace() for character in name):
            raise UserError(
                f"the special token {name!r} must be a name without spaces, such as {END_OF_TEXT!r}"
            )


def encode_around(
    text: str, known: Mapping[str, int], encode: Callable[[str], list[int]]
) -> list[int]:
    """Encode the text between named tokens, and insert their ids.

    Args:
        text: the text.
        known: names to recognize -> ids.
        encode: encodes text without such names.
    """
    if not any(name in text for name in known):
        return encode(text)
    ids: list[int] = []
    for i, part in enumerate(special_pattern(known.keys()).split(text)):
        ids += [known[part]] if i % 2 else encode(part)
    return ids


def encode_continuation(tokenizer: Any, text: str) -> list[int]:
    """Encode a text that continues another one; special tokens in it are plain text.

    Tokenizers that put a space before the first word of a text (SentencePiece's) put none here.
    """
    if hasattr(tokenizer, "encode_continuation"):
        return tokenizer.encode_continuation(text)
    return tokenizer.encode(text, disallowed_special=())


def reject_special(text: str, names: Collection[str]) -> None:
    """Raise a ValueError if `text` contains one of the special tokens `names`, as tiktoken does."""
    match = special_pattern(names).search(text) if names else None
    if match:
        raise ValueError(
            f"the text contains the special token {match.group()!r} at character {match.start()};"
            " allow it with allowed_special, or encode it as plain text with disallowed_special=()"
        )


def target_bytes(ids: Sequence[int], tokenizer: Any, start_id: int | None = None) -> int:
    """Number of bytes of text that all ids but the first encode.

    An end-of-text token counts as 0 bytes, and so does the space that some tokenizers put before
    the first word of a document.

    Args:
        ids: token ids; the first one is only the context of the second.
        tokenizer: with `decode_bytes`.
        start_id: a token that begins documents, besides the end-of-text token.
    """
    eot = end_of_text(tokenizer)
    size = len(tokenizer.decode_bytes([i for i in ids[1:] if i != eot]))
    if not getattr(tokenizer, "puts_space_first", False):
        return size
    between = {eot, start_id}
    return size - sum(a in between and b not in between for a, b in pairwise(ids))


def first_token(model: Any, tokenizer: Any) -> int | None:
    """The id before a text: the model's `start_id`, or the end-of-text token; None without both."""
    start = getattr(model, "start_id", None)
    return end_of_text(tokenizer) if start is None else start


def end_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of all tokens that end a generated text: the end-of-text token, and `other_ends`.

    Models that chat end an answer with a token of its own; Llama 3 has three such tokens.
    """
    first = end_of_text(tokenizer)
    others = [tokenizer.special_tokens[name] for name in getattr(tokenizer, "other_ends", ())]
    return frozenset(others if first is None else [first, *others])


def end_of_text(tokenizer: Any) -> int | None:
    """The id of the end-of-text token; None without one, as for nanoGPT's characters."""
    try:
        return tokenizer.eot_token
    except (AttributeError, KeyError, UserError):
        return None
