"""Special tokens: ids that no ordinary text may reach by spelling them.

`<|endoftext|>` stands between two documents. If a stranger's text could write it, a stranger could end the document,
so in every tokenizer here such a spelling is plain text unless the caller allows it.
Tests: tests/tokenizers/test_special.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from llm_scratch.errors import UserError

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<|unk|>"


def special_pattern(names: Collection[str]) -> re.Pattern[str]:
    """A pattern that finds any of `names`, the longest first; its one group keeps them in `pattern.split(text)`."""
    return re.compile("(" + "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name))) + ")")


def reject_special(text: str, names: Collection[str]) -> None:
    """Stop where `text` spells one of `names` (ValueError, as in tiktoken)."""
    if names and (found := special_pattern(names).search(text)):
        raise ValueError(
            f"the text spells the special token {found.group()!r} at character {found.start()}; "
            "allow it with allowed_special, or read it as plain text with disallowed_special=()"
        )


def end_of_text(tokenizer: Any) -> int | None:
    """The id of the end-of-text token; None for a vocabulary without one, such as nanoGPT's characters."""
    try:
        return tokenizer.eot_token
    except (AttributeError, KeyError, UserError):
        return None
