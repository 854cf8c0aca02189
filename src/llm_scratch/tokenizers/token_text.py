"""The text of a single token, for tables and pages that show tokens one by one.

Tests: tests/tokenizers/test_token_text.py.
"""

from __future__ import annotations

from typing import Any


def token_text(tokenizer: Any, token: int) -> str:
    """The text of one token.

    A part of a character becomes U+FFFD, and an id without a token, as in a vocabulary that is
    padded to a fast size, its number in angle brackets.
    """
    try:
        return tokenizer.decode_bytes([token]).decode("utf-8", "replace")
    except (KeyError, ValueError):
        return f"<{token}>"
