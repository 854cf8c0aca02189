"""Scores that depend on the text so far: what was said is made less likely, or forbidden; what you name, more or less likely.

Each is a pure function `(logits [B, V], value, ids [B, S]) -> logits [B, V]`; blanks in `ids` (-1, before a shorter text) count as nothing.
They act before the samplers, and at temperature 0 too. Yours: write such a function, then `PENALTIES["mine"] = mine`.
Proof: tests/generation/test_penalties.py (equal to transformers' logits processors where it has one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.ranges import check


def counts(ids: Tensor, vocab_size: int) -> Tensor:
    """How often each token stands in each text: [B, S] -> [B, V]."""
    said = torch.zeros(len(ids), vocab_size, device=ids.device)  # [B, V]
    inside = (ids >= 0) & (ids < vocab_size)  # [B, S]
    return said.scatter_add(1, ids.where(inside, 0), inside.float())  # [B, V]


def logit_bias(logits: Tensor, bias: Mapping[int, float], ids: Tensor | None = None) -> Tensor:
    """Add to the scores of the tokens that you name: `{262: -100}` all but forbids token 262. [B, V] -> [B, V].

    Raises:
        UserError: an id that is not in the vocabulary.
    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions, `logit_bias`.
    """
    check("logit_bias", bias)
    for token in bias:
        if not 0 <= token < logits.shape[-1]:
            raise UserError(f"logit_bias names token {token}; the vocabulary has ids from 0 to {logits.shape[-1] - 1}")
    add = torch.zeros(logits.shape[-1], device=logits.device)
    add[list(bias)] = torch.tensor(list(bias.values()), dtype=torch.float, device=logits.device)
    return logits + add  # [B, V]


def repetition_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Divide the score of each token that was said by `penalty` (multiply it where it is below 0). [B, V] -> [B, V].

    Small models fall into loops, each round making the next more likely. 1 changes nothing, 1.2 is the paper's.

    Raises:
        UserError: penalty is not above 0.
    Source: Keskar et al. 2019, "CTRL", https://arxiv.org/abs/1909.05858, section 4.1.
    """
    check("repetition_penalty", penalty)
    less = torch.where(logits < 0, logits * penalty, logits / penalty)  # [B, V]
    return torch.where(counts(ids, logits.shape[-1]) > 0, less, logits)  # [B, V]


def presence_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Take `penalty` from the score of each token that was said, however often: a nudge to new topics. [B, V] -> [B, V].

    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions, `presence_penalty`; the formula under
        https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    check("presence_penalty", penalty)
    return logits - penalty * (counts(ids, logits.shape[-1]) > 0)  # [B, V]


def frequency_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Take `penalty` from the score of a token for each time that it was said. [B, V] -> [B, V].

    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions, `frequency_penalty`; the formula under
        https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    check("frequency_penalty", penalty)
    return logits - penalty * counts(ids, logits.shape[-1])  # [B, V]


def no_repeat_ngram_size(logits: Tensor, n: int, ids: Tensor) -> Tensor:
    """Forbid every token that would end a run of `n` tokens that the text already holds. [B, V] -> [B, V].

    Raises:
        UserError: n is below 1.
    Source: Paulus, Xiong and Socher 2017, "A Deep Reinforced Model for Abstractive Summarization", https://arxiv.org/abs/1705.04304,
        section 2.5.
    """
    check("no_repeat_ngram_size", n)
    if ids.shape[1] < n:
        return logits
    runs = ids.unfold(1, n, 1)
    begun = ids[:, ids.shape[1] - n + 1 :]
    again = (runs[..., :-1] == begun[:, None]).all(-1) & (runs >= 0).all(-1) & (runs[..., -1] < logits.shape[-1])
    forbidden = counts(runs[..., -1].where(again, -1), logits.shape[-1]) > 0  # [B, V]
    return logits.masked_fill(forbidden, float("-inf"))  # [B, V]


PENALTIES: dict[str, Callable[[Tensor, Any, Any], Tensor]] = {
    "logit_bias": logit_bias,
    "repetition_penalty": repetition_penalty,
    "no_repeat_ngram_size": no_repeat_ngram_size,
    "presence_penalty": presence_penalty,
    "frequency_penalty": frequency_penalty,
}
