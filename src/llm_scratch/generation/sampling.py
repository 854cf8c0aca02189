"""From scores to one token: bend the scores, drop the unlikely, draw.

Each bend is a pure function `(logits [B, V], value) -> logits [B, V]`; what may no longer be drawn becomes -inf.
`next_token` applies those that are set, in the order of `PENALTIES` (see penalties.py) and then of `SAMPLERS`, and draws.
Yours: write such a function, then `SAMPLERS["mine"] = mine` and call `next_token(logits, mine=0.5)`.
Proof: tests/generation/test_sampling.py (equal to transformers' logits processors). Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.ranges import check

Generators = torch.Generator | Sequence[torch.Generator] | None


def temperature(logits: Tensor, t: float) -> Tensor:
    """Divide the scores by `t`: below 1 the favourites gain, above 1 the outsiders do. [B, V] -> [B, V].

    The odds of two tokens, exp(difference of scores), are raised to the power 1/t: t -> 0 always takes the favourite (that limit is
    `greedy`), t -> infinity draws all tokens alike.

    Raises:
        UserError: t is not above 0.
    Source: Ackley, Hinton and Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", section 2.
    """
    if t == 0:
        raise UserError("temperature: 0 is the limit `greedy`; give a number above 0, or call `greedy`")
    check("temperature", t)
    return logits / t  # [B, V]


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep each row's k best tokens (and what ties with the last of them). [B, V] -> [B, V]; k > V keeps all.

    A model spreads a little probability over thousands of absurd tokens, and a long text draws one of them sooner or later.

    Raises:
        UserError: k is below 1.
    Source: Fan, Lewis and Dauphin 2018, "Hierarchical Neural Story Generation", https://arxiv.org/abs/1805.04833, section 5.
    """
    check("top_k", k)
    worst_kept = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < worst_kept, float("-inf"))  # [B, V]


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep each row's best tokens until they hold the share `p` of the probability. [B, V] -> [B, V]; the best one always stays.

    Where the model is sure this keeps two or three tokens, where it is not it keeps hundreds; `top_k` cannot tell the two apart.

    Raises:
        UserError: p is not in (0, 1].
    Source: Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration", https://arxiv.org/abs/1904.09751, section 3.1.
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

    A sure model then keeps only what rivals its favourite, and a high temperature cannot let in what was absurd before.

    Raises:
        UserError: p is not in [0, 1].
    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", https://arxiv.org/abs/2407.01082, section 3.
    """
    check("min_p", p)
    share = logits.softmax(-1)  # [B, V]
    return logits.masked_fill(share < p * share.amax(-1, keepdim=True), float("-inf"))  # [B, V]


def typical_p(logits: Tensor, p: float) -> Tensor:
    """Keep the tokens that surprise about as much as was to be expected, until they hold the share `p`. [B, V] -> [B, V].

    People seldom say the most likely word all the time, nor the least likely: what a word tells (-log of its probability) stays near the
    mean of what the next word tells, the entropy. The nearest are kept first, so the best token may be dropped.

    Raises:
        UserError: p is not in (0, 1].
    Source: Meister et al. 2022, "Locally Typical Sampling", https://arxiv.org/abs/2202.00666, section 4.
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
    """Drop the tokens below a probability that sinks as the model grows unsure. [B, V] -> [B, V]; the best one always stays.

    The bound is min(epsilon, sqrt(epsilon) e^-entropy): where a thousand tokens are all fine, none of them is likely, and all may stay.

    Raises:
        UserError: epsilon is not in (0, 1).
    Source: Hewitt, Manning and Liang 2022, "Truncation Sampling as Language Model Desmoothing", https://arxiv.org/abs/2210.15191,
        section 4.
    """
    check("eta_cutoff", epsilon)
    logprobs = logits.log_softmax(-1)  # [B, V]
    entropy = -(logprobs.exp() * logprobs).nansum(-1, keepdim=True)  # [B, 1]
    bound = (epsilon**0.5 * (-entropy).exp()).clamp(max=epsilon)  # [B, 1]
    drop = (logprobs.exp() < bound) & (logits < logits.amax(-1, keepdim=True))  # [B, V]
    return logits.masked_fill(drop, float("-inf"))  # [B, V]


def greedy(logits: Tensor) -> Tensor:
    """The best token of each row: no chance, the same text every time. [B, V] -> [B, 1].

    The best token now is not the way to the likeliest text, and small models fall into loops with it.
    Source: as GPT-2 (Radford et al. 2019, section 3.7) does to translate; the loops, Holtzman et al. 2019,
        https://arxiv.org/abs/1904.09751, section 3.
    """
    return logits.argmax(-1, keepdim=True)


def exhausted(logits: Tensor) -> Tensor:
    """The rows in which no token can be drawn: all logits are -inf, or one is NaN or +inf. [B, V] -> [B, 1], bool."""
    best = logits.amax(-1, keepdim=True)  # [B, 1]
    return ~((best > float("-inf")) & (best < float("inf")))  # NaN compares as false


def sample(logits: Tensor, generator: Generators = None) -> Tensor:
    """Draw one token a row, each as often as its probability says. [B, V] -> [B, 1].

    Args:
        generator: where the chance comes from; None: PyTorch's own, which `torch.manual_seed` sets. A list gives each row its own, and
            then a row is drawn as if it were alone.
    Source: text as a Markov chain's draws, Shannon 1948, "A Mathematical Theory of Communication", section 3; of a neural network,
        Sutskever, Martens and Hinton 2011, "Generating Text with Recurrent Neural Networks".
    """
    probas = logits.float().softmax(-1)  # [B, V]
    if generator is None or isinstance(generator, torch.Generator):
        return torch.multinomial(probas, 1, generator=generator)
    return torch.cat([torch.multinomial(row, 1, generator=own) for row, own in zip(probas[:, None], generator, strict=True)])


SAMPLERS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
    "min_p": min_p,
    "typical_p": typical_p,
    "eta_cutoff": eta_cutoff,
}


def process_logits(logits: Tensor, ids: Tensor | None = None, **settings: Any) -> Tensor:
    """The scores after every penalty and sampler that is set: their softmax is what a token is drawn from. [B, V] -> [B, V].

    Args:
        ids: [B, S], the text so far, which the penalties look at; needed when one that does is set.
        settings: a value for each name of `PENALTIES` and `SAMPLERS` that shall act, None for the others. They act in the order of those
            tables (transformers' order). `temperature=0` leaves the best token alone, whatever the other samplers say.
    Raises:
        UserError: a value that its function refuses.
        TypeError: a name that is in neither table.
    """
    if strange := settings.keys() - SAMPLERS.keys() - PENALTIES.keys():
        raise TypeError(f"no sampler {', '.join(sorted(strange))}; known: {', '.join([*PENALTIES, *SAMPLERS])}")
    for name, penalise in PENALTIES.items():
        if settings.get(name) is not None:
            logits = penalise(logits, settings[name], ids)  # [B, V]
    if settings.get("temperature") == 0:
        value = torch.zeros_like(logits[..., :1]).masked_fill(exhausted(logits), float("-inf"))  # [B, 1]
        return torch.full_like(logits, float("-inf")).scatter(-1, greedy(logits), value)  # [B, V]
    for name, drop in SAMPLERS.items():
        if settings.get(name) is not None:
            logits = drop(logits, settings[name])  # [B, V]
    return logits


def next_token(logits: Tensor, generator: Generators = None, ids: Tensor | None = None, **settings: Any) -> Tensor:
    """Choose the next token of each row. [B, V] -> [B, 1]; `generator` as in `sample`, the rest as in `bend`."""
    bent = process_logits(logits, ids, **settings)  # [B, V]
    return greedy(bent) if settings.get("temperature") == 0 else sample(bent, generator)


# The toy vocabulary of lesson 4: nine words, and the scores that a small model gave them after "every effort moves you".
TOY_VOCAB = {"closer": 0, "every": 1, "effort": 2, "forward": 3, "inches": 4, "moves": 5, "pizza": 6, "toward": 7, "you": 8}
TOY_LOGITS = torch.tensor([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79])


def softmax_with_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities after `temperature`; rows sum to 1. [..., V] -> [..., V].

    Raises:
        UserError: temperature is not above 0.
    """
    return SAMPLERS["temperature"](logits, temperature).softmax(-1)


def print_sampled_tokens(probas: Tensor, vocab: Mapping[str, int] | None = None, n_draws: int = 1000) -> None:
    """Draw `n_draws` times with seed 123 and print how often each word came, as "582 x forward".

    Args:
        probas: [V], sums to 1.
        vocab: word -> id; None: the toy vocabulary.
    """
    torch.manual_seed(123)
    draws = torch.tensor([torch.multinomial(probas, 1).item() for _ in range(n_draws)])
    words = {i: word for word, i in (vocab or TOY_VOCAB).items()}
    for i, count in enumerate(draws.bincount(minlength=len(probas))):
        print(f"{count} x {words[i]}")
