"""Surprise of each token of a story under the model and under the grammar that generated it.

Where the model is more surprised than the grammar, it has not learned what decides the token.
Tests: tests/evaluation/test_story_surprise.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from llm_scratch.data.stories import prefix_bits
from llm_scratch.interpretability.lenses import surprise_bits
from llm_scratch.model.introspection import check_ids, device_of, n_start_tokens
from llm_scratch.tokenizers.token_text import token_text


class TokenSurprise(NamedTuple):
    """The surprise of one token.

    Attributes:
        text: of the token; a part of a character becomes U+FFFD.
        model_bits: -log2 of the probability that the model gave it;
            None for the first token of all.
        grammar_bits: -log2 of the probability of its letters under the grammar; None from where the
            text is not the beginning of a story.
    """

    text: str
    model_bits: float | None
    grammar_bits: float | None


def token_surprises(model: nn.Module, tokenizer: Any, ids: list[int]) -> list[TokenSurprise]:
    """The surprise of each token of a text; special tokens at its start are read, not returned.

    The model predicts tokens, and the grammar letters: that a token ends where it does is a part of
    the model's surprise alone. Summed over a story, the difference is small.

    Args:
        model: a plain model in eval mode.
        tokenizer: of the model.
        ids: of the text, as from `decode.encode_prompt`.
    """
    row = torch.tensor([ids], device=device_of(model))
    check_ids(model, row)
    of_model: list[float | None] = [
        None,
        *(surprise_bits(model, row)[0].tolist() if len(ids) > 1 else []),
    ]
    start = n_start_tokens(model, ids)
    of_grammar = grammar_bits(tokenizer, ids[start:])
    texts = (token_text(tokenizer, token) for token in ids[start:])
    return [TokenSurprise(*row) for row in zip(texts, of_model[start:], of_grammar, strict=True)]


def grammar_bits(tokenizer: Any, ids: list[int]) -> list[float | None]:
    """Surprise of each token under the grammar, in bits; None once the text is not a story's start.

    Args:
        tokenizer: with `decode_bytes`.
        ids: of the text, without special tokens.
    """
    bits: list[float | None] = []
    before = 0.0
    for end in range(1, len(ids) + 1):
        after = prefix_bits(tokenizer.decode_bytes(ids[:end]).decode("utf-8", "replace"))
        if not math.isfinite(after):
            return bits + [None] * (len(ids) - len(bits))  # no story begins so, whatever follows
        bits.append(max(0.0, after - before))  # rounding may be negative
        before = after
    return bits
