"""What the playground shows first: a text of the run's kind, and the head that matters in it.

Tests: tests/serving/test_first_screen.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llm_scratch.data.stories import HELD_OUT, Probe, begins, generate_story
from llm_scratch.errors import UserError
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.interpretability.capture import capture
from llm_scratch.interpretability.lenses import direct_logit_attribution
from llm_scratch.model.introspection import context_length, device_of, n_start_tokens
from llm_scratch.tokenizers.special import encode_continuation
from llm_scratch.tokenizers.token_text import token_text

SEARCHED_STORIES = 60
MIN_TOKENS, MAX_TOKENS = 20, 40
"""Length of the first text: long enough for a head to look back, short enough to read."""
MIN_PROBABILITY, MAX_PROBABILITY = 0.8, 0.98
"""Probability of the right name: likely, but low enough that other tokens are worth showing."""
TRIED_TOKENS = 8
"""Tokens that are tried as replacements in a text, to find one that changes the answer."""
FALLBACK_TEXT = "Once upon a time"


class FirstScreen(NamedTuple):
    """The first state of the page.

    Attributes:
        text: to read.
        position: the token that is selected: its next token is predicted.
        candidate: the next token whose probability is followed.
        answer: its text.
        layer, head: the head that adds most to the candidate's logit.
        key: the position that the head attends to most.
        other: the text with another token at `key`, which changes the answer; "" if none was found.
    """

    text: str
    position: int
    candidate: int
    answer: str
    layer: int
    head: int
    key: int
    other: str


def is_story_model(texts: Sequence[str]) -> bool:
    """Whether the texts of a run are the grammar's stories, so that right answers are known."""
    starts = [text[:60].rpartition(" ")[0] for text in texts[:2]]  # whole words
    return bool(starts) and all(start and begins(start) for start in starts)


def first_screen(model: Any, tokenizer: Any, texts: Sequence[str]) -> FirstScreen:
    """Choose a text and find the head that matters for its next token.

    For a model trained on stories, the model recalls the right name of a child there; for any
    other model, the text is the beginning of one of its texts.
    """
    with torch.no_grad():
        if is_story_model(texts):
            for probe in _name_probes():
                answer = encode_continuation(tokenizer, probe.answer)
                ids = encode_prompt(model, tokenizer, probe.prompt)
                if (
                    len(answer) != 1
                    or not MIN_TOKENS <= len(ids) <= MAX_TOKENS
                    or len(ids) > (context_length(model) or len(ids))
                ):
                    continue
                logits = model(torch.tensor([ids], device=device_of(model)))[0, -1]  # [V]
                if MIN_PROBABILITY <= float(logits.softmax(-1)[answer[0]]) <= MAX_PROBABILITY:
                    return _with_head(model, tokenizer, probe.prompt, ids, answer[0])
        text = _beginning(model, tokenizer, texts)
        ids = encode_prompt(model, tokenizer, text)
        logits = model(torch.tensor([ids], device=device_of(model)))[0, -1]  # [V]
        best = int(logits[: tokenizer.n_vocab].argmax())
        return _with_head(model, tokenizer, text, ids, best)


def _name_probes() -> Iterator[Probe]:
    """Positions in new stories where the next word is a name that occurs earlier in the text."""
    for number in range(SEARCHED_STORIES):
        for probe in generate_story(HELD_OUT + number).probes:
            if (
                probe.skill == "name"
                and probe.answer.strip() in probe.prompt
                and any(other.strip() in probe.prompt for other in probe.others)
            ):
                yield probe


def _beginning(model: Any, tokenizer: Any, texts: Sequence[str]) -> str:
    """The beginning of the first text, cut to fit, or a few words that any model can read."""
    size = min(MAX_TOKENS, (context_length(model) or MAX_TOKENS) * 3 // 4)
    for text in texts:
        ids = tokenizer.encode(text[: 8 * size], disallowed_special=())
        if ids:
            return tokenizer.decode_bytes(ids[: max(1, size - 1)]).decode("utf-8", "ignore")
    return FALLBACK_TEXT


def _with_head(
    model: Any, tokenizer: Any, text: str, ids: list[int], candidate: int
) -> FirstScreen:
    """Find the head that adds most to the candidate's logit."""
    row = torch.tensor([ids], device=device_of(model))
    targets = row.clone()
    targets[0, -1] = candidate
    attribution = direct_logit_attribution(model, row, targets)
    written = dict(zip(attribution.names, attribution.values[:, 0, -1].tolist(), strict=True))
    heads = [
        (layer, number)
        for layer, block in enumerate(model.trf_blocks)
        for number in range(block.att.num_heads)
    ]
    layer, number = max(heads, key=lambda at: written[f"{at[0]}.{at[1]}"])
    name = f"blocks.{layer}.attn.hook_pattern"
    with capture(model, name) as acts:
        model(row)
    key = int(acts[name][0, number, -1].argmax())
    answer = token_text(tokenizer, candidate)
    other = _with_another_token(model, tokenizer, ids, key, candidate)
    return FirstScreen(text, len(ids) - 1, candidate, answer, layer, number, key, other)


def _with_another_token(
    model: Any, tokenizer: Any, ids: list[int], position: int, candidate: int
) -> str:
    """Replace the token at a position, wherever it occurs, such that the answer changes.

    The model's own best guesses for the position are tried, as they fit into the text.
    """
    start = n_start_tokens(model, ids)
    if position < max(start, 1):
        return ""

    def logits_after(row: list[int]) -> Tensor:
        return model(torch.tensor([row], device=device_of(model)))[0, -1, : tokenizer.n_vocab]

    guesses = logits_after(ids[:position])
    for token in guesses.topk(min(TRIED_TOKENS, len(guesses))).indices.tolist():
        changed = [token if other == ids[position] else other for other in ids]
        try:
            text = tokenizer.decode_bytes(changed[start:]).decode()
            is_text = encode_prompt(model, tokenizer, text) == changed
        except (UserError, KeyError, ValueError):  # a special token, a part of a character
            continue
        if is_text and int(logits_after(changed).argmax()) != candidate:
            return text
    return ""
