"""Samplers: choose the next token from logits, by temperature, top-k, top-p and others.

Each sampler is a pure function `(logits [B, V], value) -> logits [B, V]`; excluded tokens become
-inf. `next_token` applies those that are set, in the order of `PENALTIES` (see penalties.py) and
then of `SAMPLERS`, and samples. To add one, write such a function, set `SAMPLERS["mine"] = mine`
and call `next_token(logits, mine=0.5)`.
Tests: tests/generation/test_sampling.py (equal to transformers' logits processors).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.ranges import MAX_SEED, check

Generators = torch.Generator | Sequence[torch.Generator] | None


def temperature(logits: Tensor, t: float) -> Tensor:
    """Divide the logits by `t`: t < 1 favors likely tokens. [B, V] -> [B, V].

    The odds of two tokens, exp(difference of logits), are raised to the power 1/t. The limit t -> 0
    is `greedy`; t -> infinity makes all tokens equally likely.

    Raises:
        UserError: t is not above 0.
    Source: Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines",
    section 2.
    """
    if t == 0:
        raise UserError(
            "temperature: 0 is the limit `greedy`; pass a number above 0, or call `greedy`"
        )
    check("temperature", t)
    return logits / t  # [B, V]


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k most likely tokens of each row, and ties with the last one. [B, V] -> [B, V].

    A model spreads a little probability over thousands of absurd tokens, and a long text samples
    one of them sooner or later. k > V keeps all.

    Raises:
        UserError: k is below 1.
    Source: Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation",
    https://arxiv.org/abs/1805.04833, section 5.
    """
    check("top_k", k)
    worst_kept = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < worst_kept, float("-inf"))  # [B, V]


def top_p(logits: Tensor, p: float) -> Tensor:
    """Nucleus sampling: keep the most likely tokens that sum to `p`. [B, V] -> [B, V].

    A confident prediction keeps two or three tokens, an uncertain one hundreds; `top_k` keeps the
    same number in both cases. The most likely token always stays.

    Raises:
        UserError: p is not in (0, 1].
    Source: Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration",
    https://arxiv.org/abs/1904.09751, section 3.1.
    """
    check("top_p", p)
    if p == 1:
        return logits
    best_first, order = logits.sort(descending=True, stable=True)  # [B, V]
    share = best_first.softmax(-1)  # [B, V]
    drop = share.cumsum(-1) - share >= p  # [B, V]
    drop[..., 0] = False  # also where p is 0 in float32
    return logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))  # [B, V]


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens that are at least `p` times as likely as the best one. [B, V] -> [B, V].

    A confident prediction keeps only close rivals of its best token, and a high temperature does
    not admit absurd tokens.

    Raises:
        UserError: p is not in [0, 1].
    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling",
    https://arxiv.org/abs/2407.01082, section 3.
    """
    check("min_p", p)
    share = logits.softmax(-1)  # [B, V]
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), float("-inf"))  # [B, V]


def typical_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens of typical surprise whose probabilities sum to `p`. [B, V] -> [B, V].

    In human text the information of a word (-log of its probability) stays near its expected value,
    the entropy. Tokens nearest to the entropy are kept first, so the most likely one may be
    dropped.

    Raises:
        UserError: p is not in (0, 1].
    Source: Meister et al. 2022, "Locally Typical Sampling", https://arxiv.org/abs/2202.00666,
    section 4.
    """
    check("typical_p", p)
    if p == 1:
        return logits
    logprobs = logits.log_softmax(-1)  # [B, V]
    entropy = -(logprobs.exp() * logprobs).nansum(-1, keepdim=True)  # [B, 1]
    distance, order = (-logprobs - entropy).abs().sort(stable=True)  # [B, V]
    held = logits.gather(-1, order).softmax(-1).cumsum(-1)  # [B, V]
    last = (held < p).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)  # [B, 1]
    drop = distance > distance.gather(-1, last)  # [B, V]
    return logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))  # [B, V]


def eta_cutoff(logits: Tensor, epsilon: float) -> Tensor:
    """Drop the tokens below a probability that decreases with the entropy. [B, V] -> [B, V].

    The bound is min(epsilon, sqrt(epsilon) e^-entropy): where a thousand tokens fit, none is
    likely, and all may stay. The most likely token always stays.

    Raises:
        UserError: epsilon is not in (0, 1).
    Source: Hewitt, Manning and Liang 2022, "Truncation Sampling as Language Model Desmoothing",
    https://arxiv.org/abs/2210.15191,
        section 4.
    """
    check("eta_cutoff", epsilon)
    logprobs = logits.log_softmax(-1)  # [B, V]
    entropy = -(logprobs.exp() * logprobs).nansum(-1, keepdim=True)  # [B, 1]
    bound = (epsilon**0.5 * (-entropy).exp()).clamp(max=epsilon)  # [B, 1]
    drop = (logprobs.exp() < bound) & (logits < logits.amax(-1, keepdim=True))  # [B, V]
    return logits.masked_fill(drop, float("-inf"))  # [B, V]


def greedy(logits: Tensor) -> Tensor:
    """Choose the most likely token of each row; deterministic. [B, V] -> [B, 1].

    Greedy choices do not give the most likely text, and small models fall into loops.
    Source: as GPT-2 (Radford et al. 2019, section 3.7) does to translate; the loops, Holtzman et
    al. 2019,
        https://arxiv.org/abs/1904.09751, section 3.
    """
    return logits.argmax(-1, keepdim=True)


def exhausted(logits: Tensor) -> Tensor:
    """Rows without a valid token: all logits are -inf, or one is NaN or +inf. -> bool [B, 1]."""
    best = logits.amax(-1, keepdim=True)  # [B, 1]
    return ~((best > float("-inf")) & (best < float("inf")))  # NaN compares as false


def sample(logits: Tensor, generator: Generators = None) -> Tensor:
    """Sample one token a row from the softmax of the logits. [B, V] -> [B, 1].

    Args:
        logits: [B, V].
        generator: random generator; None: PyTorch's default, set by `torch.manual_seed`. A list has
            one for each row, which is then sampled as if it were alone.
    Source: text as a Markov chain's draws, Shannon 1948, "A Mathematical Theory of Communication",
    section 3; of a neural network,
        Sutskever, Martens and Hinton 2011, "Generating Text with Recurrent Neural Networks".
    """
    probas = logits.float().softmax(-1)  # [B, V]
    if generator is None or isinstance(generator, torch.Generator):
        return torch.multinomial(probas, 1, generator=generator)
    rows = zip(probas[:, None], generator, strict=True)
    return torch.cat([torch.multinomial(row, 1, generator=own) for row, own in rows])


def wrap_seed(seed: int) -> int:
    """A seed above the maximum, as of a later sample, starts again from 0."""
    return seed % (MAX_SEED + 1) if seed > MAX_SEED else seed


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """Create a random generator; seeds above the maximum wrap around to 0.

    Raises:
        UserError: a seed below 0.
    """
    check("seed", wrap_seed(seed))
    return torch.Generator(device).manual_seed(wrap_seed(seed))


SAMPLERS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
    "eta_cutoff": eta_cutoff,
}
"""Name of a sampler -> function of (logits [B, V], value); they are applied in this order."""


def process_logits(logits: Tensor, ids: Tensor | None = None, **settings: Any) -> Tensor:
    """Apply every penalty and sampler that is set. [B, V] -> [B, V], the logits to sample from.

    Args:
        logits: [B, V].
        ids: [B, S], the text so far; required by the penalties that depend on it.
        settings: values by names of `PENALTIES` and `SAMPLERS`; None: not applied. They are applied
            in the order of those tables (transformers' order). `temperature=0` keeps the best token
            only, whatever the other samplers are.
    Raises:
        UserError: a value out of range.
        TypeError: a name that is in neither table.
    """
    if unknown := settings.keys() - SAMPLERS.keys() - PENALTIES.keys():
        known = ", ".join([*PENALTIES, *SAMPLERS])
        raise TypeError(f"no sampler {', '.join(sorted(unknown))}; known: {known}")
    for name, penalize in PENALTIES.items():
        if settings.get(name) is not None:
            logits = penalize(logits, settings[name], ids)  # [B, V]
    if settings.get("temperature") == 0:
        value = torch.zeros_like(logits[..., :1])  # [B, 1]
        value = value.masked_fill(exhausted(logits), float("-inf"))  # [B, 1]
        return torch.full_like(logits, float("-inf")).scatter(-1, greedy(logits), value)  # [B, V]
    for name, sampler in SAMPLERS.items():
        if settings.get(name) is not None:
            logits = sampler(logits, settings[name])  # [B, V]
    return logits


def next_token(
    logits: Tensor, generator: Generators = None, ids: Tensor | None = None, **settings: Any
) -> Tensor:
    """Choose the next token of each row, by `process_logits` and `sample`. [B, V] -> [B, 1]."""
    logits = process_logits(logits, ids, **settings)  # [B, V]
    return greedy(logits) if settings.get("temperature") == 0 else sample(logits, generator)


# Toy vocabulary of lesson 4: nine words, and their logits after "every effort moves you".
TOY_VOCAB = {
    "closer": 0,
    "every": 1,
    "effort": 2,
    "forward": 3,
    "inches": 4,
    "moves": 5,
    "pizza": 6,
    "toward": 7,
    "you": 8,
}
TOY_LOGITS = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


def softmax_with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities after `temperature`; rows sum to 1. [..., V] -> [..., V].

    Raises:
        UserError: temperature is not above 0.
    """
    return SAMPLERS["temperature"](logits, temperature).softmax(-1)


def print_sampled_tokens(
    probas: Tensor, vocab: Mapping[str, int] | None = None, n_draws: int = 1000
) -> None:
    """Sample `n_draws` times with seed 123 and print how often each word came, as "582 x forward".

    Args:
        probas: [V], sums to 1.
        vocab: word -> id; None: the toy vocabulary.
    """
    torch.manual_seed(123)
    draws = torch.tensor([torch.multinomial(probas, 1).item() for _ in range(n_draws)])
    words = {i: word for word, i in (vocab or TOY_VOCAB).items()}
    for i, count in enumerate(draws.bincount(minlength=len(probas))):
        print(f"{count} x {words[i]}")
