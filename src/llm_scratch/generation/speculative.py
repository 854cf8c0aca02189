"""Speculative decoding and prompt lookup: check several draft tokens in one forward pass.

A forward pass of five tokens takes hardly longer than one of a single token, as both read all
weights. `speculate` accepts and replaces draft tokens such that each token has exactly the
distribution of the model alone, whatever the draft is.
Tests: tests/generation/test_speculative.py (chi-square on 20,000 draws; greedy text identical).
Source: Leviathan, Kalman and Matias 2022, "Fast Inference from Transformers via Speculative
Decoding", https://arxiv.org/abs/2211.17192, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.cached_model import NO_CHOICE, CachedModel
from llm_scratch.generation.config import DEFAULT_TEMPERATURE, ContextOverflow
from llm_scratch.generation.sampling import exhausted, process_logits, seeded
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import eval_mode, vocab_size
from llm_scratch.ranges import check

DEFAULT_DRAFT_TOKENS = 4
Propose = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(text so far [1, S], maximum n) -> draft tokens [1, n] and distributions [1, n, V]; n may be 0"""


@torch.no_grad()
def speculate(
    model: nn.Module,
    idx: Tensor,
    propose: Propose,
    *,
    draft_tokens: int = DEFAULT_DRAFT_TOKENS,
    generator: torch.Generator | None = None,
    n_vocab: int | None = None,
    context_size: int | None = None,
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
    **settings: Any,
) -> Iterator[Step]:
    """Continue one text with draft tokens, without end.

    A draft token x of probability q(x) is accepted with probability min(1, p(x) / q(x)), where p is
    the model's distribution. The first rejected one is replaced by a sample from max(0, p - q), and
    those after it are dropped. If all are accepted, the forward pass gives one more token. When the
    window slides, there is no space for draft tokens, and tokens are generated one by one.

    Args:
        idx: [1, T].
        propose: gives draft tokens: `DraftModel(small_model)` or `prompt_lookup`.
        draft_tokens: maximum number of draft tokens at once.
        n_vocab: tokens of the tokenizer, as in `steps.build_sampler`.
        context_size, prefill_chunk: as in `CachedModel`; context_overflow: as in `steps.steps`.
        settings: samplers and penalties, as in `sampling.process_logits`; they define p.
    Raises:
        UserError: more than one row.
    """
    check("draft_tokens", draft_tokens)
    for name, value in settings.items():
        check(name, value)
    if len(idx) != 1:
        raise UserError(f"speculative decoding: got {len(idx)} texts; pass one at a time")
    cached_model = CachedModel(model, context_size, prefill_chunk)
    size = cached_model.size
    with eval_mode(model):
        while context_overflow == "slide" or size is None or idx.shape[1] <= size:
            S = idx.shape[1]
            draft, q = _draft(propose, idx, draft_tokens, size)
            longer, n = torch.cat([idx, draft], dim=1), draft.shape[1]
            logits = cached_model(longer, n + 1)
            for i in range(n + 1):
                text = longer[:, : S + i]
                processed = process_logits(logits[:, i, :n_vocab], text, **settings)  # [B, V]
                if exhausted(processed).any():
                    yield Step(torch.full_like(idx[:, :1], NO_CHOICE), logits[:, i])
                    return
                p = processed.softmax(-1)  # [B, V]
                token = draft[:, i : i + 1]
                accepted = i < n and _accept(p, q[:, i], token, generator)
                if not accepted:
                    target = _residual(p, q[:, i]) if i < n else p  # [B, V]
                    token = torch.multinomial(target, 1, generator=generator)  # [B, 1]
                yield Step(token, logits[:, i])
                if not accepted:
                    idx = torch.cat([text, token], dim=1)
                    cached_model.rewind(idx.shape[1] - 1)
                    break


def speculative(
    model: nn.Module,
    idx: Tensor,
    *,
    draft: nn.Module,
    draft_tokens: int = DEFAULT_DRAFT_TOKENS,
    seed: int | None = None,
    n_vocab: int | None = None,
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
    temperature: float = DEFAULT_TEMPERATURE,
    **settings: Any,
) -> Iterator[Step]:
    """Continue one text with draft tokens from a smaller model, without end.

    The other arguments are those of `speculate`.

    Args:
        draft: a model with the same vocabulary.
        seed: of the random generator; None: PyTorch's default generator.
    Raises:
        UserError: the vocabularies of the models differ (exit code 3).
    """
    check_draft(model, draft)
    generator = None if seed is None else seeded(seed, idx.device)
    samplers = {"temperature": temperature, **settings, "n_vocab": n_vocab}
    propose = DraftModel(draft, generator, **samplers)
    return speculate(
        model,
        idx,
        propose,
        draft_tokens=draft_tokens,
        generator=generator,
        context_overflow=context_overflow,
        prefill_chunk=prefill_chunk,
        **samplers,
    )


def lookup(
    model: nn.Module,
    idx: Tensor,
    *,
    draft_tokens: int = DEFAULT_DRAFT_TOKENS,
    seed: int | None = None,
    n_vocab: int | None = None,
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
    temperature: float = DEFAULT_TEMPERATURE,
    **settings: Any,
) -> Iterator[Step]:
    """Continue one text with draft tokens from `prompt_lookup`, without end.

    The other arguments are those of `speculate`.

    Args:
        seed: of the random generator; None: PyTorch's default generator.
    """
    return speculate(
        model,
        idx,
        partial(prompt_lookup, n_vocab=n_vocab or vocab_size(model) or 0),
        draft_tokens=draft_tokens,
        generator=None if seed is None else seeded(seed, idx.device),
        n_vocab=n_vocab,
        context_overflow=context_overflow,
        prefill_chunk=prefill_chunk,
        temperature=temperature,
        **settings,
    )


def _draft(
    propose: Propose, idx: Tensor, draft_tokens: int, size: int | None
) -> tuple[Tensor, Tensor]:
    """Draft tokens and their distributions; none in a full context of `size` tokens."""
    space = draft_tokens if size is None else min(draft_tokens, size - idx.shape[1])
    if space > 0:
        return propose(idx, space)
    return idx[:, :0], torch.empty(1, 0, 0, device=idx.device)


def _accept(p: Tensor, q: Tensor, token: Tensor, generator: torch.Generator | None) -> bool:
    """Whether to accept a draft token: always if p >= q, else with probability p / q."""
    uniform = torch.rand((), generator=generator, device=p.device)
    return bool(uniform * q.gather(1, token) < p.gather(1, token))


def _residual(p: Tensor, q: Tensor) -> Tensor:
    """Unnormalized distribution that replaces a rejected draft token: max(0, p - q), [B, V]."""
    return (p - q).clamp(min=0)


class DraftModel:
    """Draft tokens from a smaller model with its own cache.

    Args:
        model: a model with the vocabulary of the large one.
        generator, n_vocab, settings: as in `speculate`, preferably the same: the closer q is to p,
            the more draft tokens are accepted.
    """

    def __init__(
        self,
        model: nn.Module,
        generator: torch.Generator | None = None,
        n_vocab: int | None = None,
        **settings: Any,
    ) -> None:
        self.model = model
        self.generator = generator
        self.n_vocab = n_vocab
        self.settings = settings
        self.cached_model = CachedModel(model)

    def __call__(self, idx: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """Sample up to n draft tokens after idx [1, S]; return them and their distributions."""
        self.cached_model.sync_to(idx)
        q = []
        start = idx.shape[1]
        with eval_mode(self.model):
            for _ in range(n):
                logits = self.cached_model(idx)[:, -1, : self.n_vocab]  # [B, V]
                logits = process_logits(logits, idx, **self.settings)  # [B, V]
                if exhausted(logits).any():
                    break
                q.append(logits.softmax(-1))
                idx = torch.cat([idx, torch.multinomial(q[-1], 1, generator=self.generator)], dim=1)
        if not q:
            return idx[:, start:], torch.empty(1, 0, 0, device=idx.device)
        return idx[:, start:], torch.stack(q, dim=1)


def check_draft(model: nn.Module, draft: nn.Module) -> None:
    """Check that a draft model has the vocabulary of the model.

    Raises:
        UserError: their vocabularies differ in size (exit code 3).
    """
    ours, theirs = vocab_size(model), vocab_size(draft)
    if ours != theirs:
        raise UserError(
            f"the draft model has {theirs} tokens and the model {ours};"
            " use a draft model that was trained with the same tokenizer",
            DATA,
        )


def prompt_lookup(idx: Tensor, n: int, *, n_vocab: int, longest: int = 3) -> tuple[Tensor, Tensor]:
    """Draft tokens from the text itself: those after an earlier occurrence of the last few tokens.

    Needs no second model; works well for repetitive text, such as code, summaries and names. Its
    distributions q are 1 at each draft token.

    Args:
        idx: [1, S].
        n_vocab: V.
        longest: search for this many tokens first, then for fewer; the last occurrence counts.
    Returns:
        Draft tokens [1, n] and [1, n, V]; n = 0 without an earlier occurrence.
    Source: Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding.
    """
    ids = idx[0]
    for size in range(min(longest, len(ids) - 1), 0, -1):
        matches = (ids[:-1].unfold(0, size, 1) == ids[-size:]).all(-1).nonzero()
        if len(matches):
            start = int(matches[-1]) + size
            draft = idx[:, start : start + n]
            return draft, F.one_hot(draft, n_vocab).float()
    return idx[:, :0], torch.empty(1, 0, n_vocab, device=idx.device)
