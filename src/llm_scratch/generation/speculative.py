"""Several tokens for one reading: something cheap guesses the next few, the model reads all guesses at once and keeps those that hold.

Reading one token or five takes a model nearly the same time, since its weights must come from
memory either way. Who guesses does not change what is written: `speculative` accepts and replaces
guesses so that each token is distributed exactly as if the model had drawn it. Proof:
tests/generation/test_speculative.py (chi-square on 20,000 draws; greedy text identical).
Source: Leviathan, Kalman and Matias 2022, "Fast Inference from Transformers via Speculative
Decoding", https://arxiv.org/abs/2211.17192, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.cached_model import NO_CHOICE, CachedModel
from llm_scratch.generation.sampling import exhausted, process_logits
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import eval_mode, vocab_size
from llm_scratch.ranges import check

Propose = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(the text so far [1, S], at most how many) -> guesses [1, n], and the probabilities [1, n, V] they were drawn from; n may be 0"""


@torch.no_grad()
def speculative(
    model: nn.Module,
    idx: Tensor,
    propose: Propose,
    *,
    n_guesses: int = 4,
    generator: torch.Generator | None = None,
    n_vocab: int | None = None,
    context_size: int | None = None,
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
    **settings: Any,
) -> Iterator[Step]:
    """Continue one text with the help of guesses, without end.

    A guess x, drawn with probability q(x), is kept with probability min(1, p(x) / q(x)), where p is
    the model's. The first that is not kept is replaced by a draw from what p has more than q, and
    the guesses after it are forgotten. When all are kept, one more token is free. Where the window
    slides there is no room to guess, and tokens come one by one.

    Args:
        idx: [1, T].
        propose: who guesses: `Draft(small_model)` or `lookup`.
        n_guesses: at most how many at once.
        n_vocab: how many tokens the tokenizer has, as in `steps.chooser`.
        context_size, prefill_chunk: as in `Reader`; on_full: as in `steps.steps`.
        settings: samplers and penalties, as in `sampling.bend`; they define p.
    Raises:
        UserError: more than one row.
    """
    check("guesses", n_guesses, "n_guesses")
    for name, value in settings.items():
        check(name, value)
    if len(idx) != 1:
        raise UserError(f"speculative decoding writes one text at a time; got {len(idx)}, run them one after the other")
    reader = CachedModel(model, context_size, prefill_chunk)
    with eval_mode(model):
        while on_full == "slide" or reader.size is None or idx.shape[1] <= reader.size:
            room = n_guesses if reader.size is None else min(n_guesses, reader.size - idx.shape[1])
            guesses, q = propose(idx, room) if room > 0 else (idx[:, :0], torch.empty(1, 0, 0, device=idx.device))
            n, S = guesses.shape[1], idx.shape[1]
            longer = torch.cat([idx, guesses], dim=1)
            logits = reader(longer, n + 1)
            for i in range(n + 1):
                bent = process_logits(logits[:, i, :n_vocab], longer[:, : S + i], **settings)  # [B, V]
                if exhausted(bent).any():
                    yield Step(torch.full_like(idx[:, :1], NO_CHOICE), logits[:, i])
                    return
                p = bent.softmax(-1)  # [B, V]
                kept = i < n and _accept(p, q[:, i], guesses[:, i : i + 1], generator)
                more = _residual(p, q[:, i]) if i < n and not kept else p  # [B, V]
                new = guesses[:, i : i + 1] if kept else torch.multinomial(more, 1, generator=generator)  # [B, 1]
                yield Step(new, logits[:, i])
                if not kept:
                    idx = torch.cat([longer[:, : S + i], new], dim=1)
                    reader.rewind(idx.shape[1] - 1)
                    break


def _accept(p: Tensor, q: Tensor, guess: Tensor, generator: torch.Generator | None) -> bool:
    """Whether a guess is kept: always where the model finds it at least as likely as the guesser did, else by chance p / q."""
    chance = torch.rand((), generator=generator, device=p.device)
    return bool(chance * q.gather(1, guess) < p.gather(1, guess))


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """What the model's probabilities have more than the guesser's: [B, V] -> [B, V], what replaces a guess that was not kept."""
    return (p - q).clamp(min=0)


class DraftModel:
    """Guesses with a smaller model, which remembers what it has read.

    Args:
        model: a model with the same tokens as the large one.
        generator, n_vocab, settings: as in `speculative`, and best the same: the more alike p and
            q, the more guesses are kept.
    """

    def __init__(
        self,
        model: nn.Module,
        generator: torch.Generator | None = None,
        n_vocab: int | None = None,
        **settings: Any,
    ) -> None:
        self.model, self.generator, self.n_vocab, self.settings = (
            model,
            generator,
            n_vocab,
            settings,
        )
        self.reader = CachedModel(model)

    def __call__(self, idx: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """n guesses after idx [1, S], each drawn after the one before it, and what they were drawn from: [1, n] and [1, n, V]."""
        self.reader.sync_to(idx)
        q, start = [], idx.shape[1]
        with eval_mode(self.model):
            for _ in range(n):
                logits = self.reader(idx)[:, -1, : self.n_vocab]  # [B, V]
                bent = process_logits(logits, idx, **self.settings)  # [B, V]
                if exhausted(bent).any():
                    break
                q.append(bent.softmax(-1))
                idx = torch.cat([idx, torch.multinomial(q[-1], 1, generator=self.generator)], dim=1)
        if not q:
            return idx[:, start:], torch.empty(1, 0, 0, device=idx.device)
        return idx[:, start:], torch.stack(q, dim=1)


def check_draft(model: nn.Module, draft: nn.Module) -> None:
    """Refuse a draft that speaks other tokens than the model.

    Raises:
        UserError: their vocabularies differ in size (code 3).
    """
    ours, theirs = vocab_size(model), vocab_size(draft)
    if ours != theirs:
        raise UserError(
            f"the draft knows {theirs} tokens and the model {ours}; take a draft that was trained with the same tokenizer",
            DATA,
        )


def prompt_lookup(idx: Tensor, n: int, *, n_vocab: int, longest: int = 3) -> tuple[Tensor, Tensor]:
    """Guesses from the text itself: what followed the last few tokens when they stood there before. No second model is needed.

    Good where a text repeats itself: code, summaries, names. The guess is sure of itself, so q is 1
    at each guess.

    Args:
        idx: [1, S].
        n_vocab: V.
        longest: look for this many tokens first, then for fewer; the latest place counts.
    Returns:
        [1, n] and [1, n, V]; n = 0 where nothing stood there before.
    Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding.
    """
    ids = idx[0]
    for size in range(min(longest, len(ids) - 1), 0, -1):
        places = (ids[:-1].unfold(0, size, 1) == ids[-size:]).all(-1).nonzero()
        if len(places):
            begin = int(places[-1]) + size
            guesses = idx[:, begin : begin + n]
            return guesses, F.one_hot(guesses, n_vocab).float()
    return idx[:, :0], torch.empty(1, 0, n_vocab, device=idx.device)
