"""Repetition, presence and frequency penalties, n-gram blocking and logit bias.

Each is a pure function `(logits [B, V], value, ids [B, S]) -> logits [B, V]`; padding in `ids` (-1)
is ignored. They apply before the samplers, also at temperature 0. To add one, write such a function
and set `PENALTIES["mine"] = mine`.
Tests: tests/generation/test_penalties.py (equal to transformers' logits processors where it has
one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.ranges import check


def counts(ids: Tensor, vocab_size: int) -> Tensor:
    """Count each token in each text: [B, S] -> [B, V]."""
    zeros = torch.zeros(len(ids), vocab_size, device=ids.device)  # [B, V]
    inside = (ids >= 0) & (ids < vocab_size)  # [B, S]
    return zeros.scatter_add(1, ids.where(inside, 0), inside.float())  # [B, V]


def logit_bias(logits: Tensor, bias: Mapping[int, float], ids: Tensor | None = None) -> Tensor:
    """Add to the logits of given tokens: `{262: -100}` all but excludes 262. [B, V] -> [B, V].

    Raises:
        UserError: an id that is not in the vocabulary.
    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions, `logit_bias`.
    """
    check_logit_bias(bias, logits.shape[-1])
    add = torch.zeros(logits.shape[-1], device=logits.device)
    add[list(bias)] = torch.tensor(list(bias.values()), dtype=torch.float, device=logits.device)
    return logits + add  # [B, V]


def check_logit_bias(bias: Mapping[int, float], vocab_size: int) -> None:
    """Check that a bias is in range and its tokens are in the vocabulary.

    Raises:
        UserError: names the first that is not.
    """
    check("logit_bias", bias)
    for token in bias:
        if not 0 <= token < vocab_size:
            raise UserError(
                f"logit_bias: no token {token} in the vocabulary;"
                f" use ids from 0 to {vocab_size - 1}"
            )


def repetition_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Divide positive logits of the text's tokens by `penalty`, multiply negative ones. [B, V].

    Small models fall into loops, and each round makes the next more likely. 1 has no effect; the
    paper uses 1.2.

    Raises:
        UserError: penalty is not above 0.
    Source: Keskar et al. 2019, "CTRL", https://arxiv.org/abs/1909.05858, section 4.1.
    """
    check("repetition_penalty", penalty)
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)  # [B, V]
    return torch.where(counts(ids, logits.shape[-1]) > 0, penalized, logits)  # [B, V]


def presence_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Subtract `penalty` from the logit of each token of the text, once. [B, V] -> [B, V].

    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions,
    `presence_penalty`; the formula under
        https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    check("presence_penalty", penalty)
    return logits - penalty * (counts(ids, logits.shape[-1]) > 0)  # [B, V]


def frequency_penalty(logits: Tensor, penalty: float, ids: Tensor) -> Tensor:
    """Subtract `penalty` from the logit of a token for each occurrence. [B, V] -> [B, V].

    Source: OpenAI's API, https://platform.openai.com/docs/api-reference/completions,
    `frequency_penalty`; the formula under
        https://platform.openai.com/docs/advanced-usage, "Frequency and presence penalties".
    """
    check("frequency_penalty", penalty)
    return logits - penalty * counts(ids, logits.shape[-1])  # [B, V]


def no_repeat_ngram_size(logits: Tensor, n: int, ids: Tensor) -> Tensor:
    """Exclude every token that would repeat an n-gram of the text. [B, V] -> [B, V].

    Raises:
        UserError: n is below 1.
    Source: Paulus, Xiong and Socher 2017, "A Deep Reinforced Model for Abstractive Summarization",
    https://arxiv.org/abs/1705.04304,
        section 2.5.
    """
    check("no_repeat_ngram_size", n)
    if ids.shape[1] < n:
        return logits
    ngrams = ids.unfold(1, n, 1)
    prefix = ids[:, ids.shape[1] - n + 1 :]
    last = ngrams[..., -1]
    is_token = (ngrams >= 0).all(-1) & (last < logits.shape[-1])
    repeats = (ngrams[..., :-1] == prefix[:, None]).all(-1) & is_token
    excluded = counts(last.where(repeats, -1), logits.shape[-1]) > 0  # [B, V]
    return logits.masked_fill(excluded, float("-inf"))  # [B, V]


PENALTIES: dict[str, Callable[[Tensor, Any, Any], Tensor]] = {
    "logit_bias": logit_bias,
    "repetition_penalty": repetition_penalty,
    "no_repeat_ngram_size": no_repeat_ngram_size,
    "presence_penalty": presence_penalty,
    "frequency_penalty": frequency_penalty,
}
"""Name of a penalty -> function of (logits [B, V], value, ids [B, S]); applied in this order."""
