"""The generation loop: compute logits, choose the next token, append it, repeat.

All decoding strategies (this one, contrastive.py, speculative.py, beam.py) yield a `Step` for each
new token, which detokenizer.py turns into text.
Tests: tests/generation/test_decode.py. Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import NO_CHOICE, PAD, CachedModel
from llm_scratch.generation.config import ContextOverflow
from llm_scratch.generation.mirostat import Mirostat
from llm_scratch.generation.sampling import Generators, exhausted, greedy, process_logits, sample
from llm_scratch.model.introspection import eval_mode
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.ranges import check

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> logits [B, V]"""
TokenChooser = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> the next tokens [B, 1], or `NO_CHOICE`"""


class Step(NamedTuple):
    """One new token for each row: ids [B, 1] and the model's unprocessed logits [B, V]."""

    ids: Tensor
    logits: Tensor


def build_sampler(
    generator: Generators = None,
    *,
    n_vocab: int | None = None,
    constraint: LogitsProcessor | None = None,
    mirostat: float | None = None,
    **settings: Any,
) -> TokenChooser:
    """Build a sampler: constraint, penalties, samplers, mirostat, then the random choice.

    Args:
        generator: as in `sampling.sample`.
        n_vocab: tokens of the tokenizer;
            a vocabulary padded to a fast size has logits without tokens.
        constraint: excludes tokens, such as `constrain.Constraint`.
        mirostat: target in bits per token; see `mirostat.Mirostat`.
        settings: as in `sampling.process_logits`.
    Raises:
        UserError: a setting out of range, or mirostat at temperature 0, where nothing is random.
    """
    for name, value in settings.items():
        check(name, value)
    controller = None if mirostat is None else Mirostat(mirostat)
    if controller is not None and settings.get("temperature") == 0:
        raise UserError(
            "mirostat: has no effect at temperature=0, which is greedy; leave out one of the two"
        )

    def choose(logits: Tensor, ids: Tensor) -> Tensor:
        logits = logits[:, :n_vocab]
        if constraint is not None:
            logits = constraint(logits, ids)
        logits = process_logits(logits, ids, **settings)  # [B, V]
        no_choice = exhausted(logits)  # [B, 1]
        if settings.get("temperature") == 0:
            return greedy(logits).masked_fill(no_choice, NO_CHOICE)
        if controller is not None:
            logits = controller(logits, ids)
        return sample(logits.masked_fill(no_choice, 0.0), generator).masked_fill(
            no_choice, NO_CHOICE
        )

    return choose


@torch.no_grad()
def steps(
    model: nn.Module,
    idx: Tensor,
    choose: TokenChooser,
    *,
    context_size: int | None = None,
    eos_id: int | None = None,
    samples: int = 1,
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
) -> Iterator[Step]:
    """Continue each row of `idx` one token at a time, until every row has ended or is full.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`; in eval mode meanwhile, restored afterwards.
        idx: [B, T], the prompts; shorter ones are padded on the left, as by `pad_left`.
        choose: as from `build_sampler`.
        context_size, prefill_chunk: as in `CachedModel`.
        samples: continuations of each prompt, in adjacent rows; the prompt is read once.
        context_overflow: when a row fills the context,
            "slide" drops its oldest token at each step, and "stop" ends the row.
        cache: of `model.new_cache(B)`; tokens of `idx` that it holds are not read again, and
            afterwards it holds the new tokens, with a row for each sample. None: a new cache.
    Yields:
        A `Step` of B * samples rows. A row that has ended repeats `eos_id`, a full one yields
        `PAD`, and one in which every token is excluded `NO_CHOICE`.
    """
    cached_model = CachedModel(model, context_size, prefill_chunk)
    if cache is not None:
        cached_model.append(cache, idx)
    size = cached_model.size if context_overflow == "stop" else None
    left = None if size is None else _space_left(idx, size).repeat_interleave(samples, 0)
    ended = torch.zeros(len(idx) * samples, 1, dtype=torch.bool, device=idx.device)  # [B, 1]
    full = stuck = ended
    with eval_mode(model):
        while True:
            if size is not None and left is not None:
                full = ~ended & ~stuck & (left <= 0)
                if not (active := ~ended & ~full & ~stuck).any():
                    return
                if idx.shape[1] > size:  # the longest row is full: drop the padding it required
                    idx = idx[:, int(left[active].min()) - size - 1 :]
                    cached_model.rewind(0)
                left = left - 1
            logits = cached_model(idx)[:, -1]  # [B, V]
            if len(idx) < len(ended):
                rows = torch.arange(len(idx), device=idx.device).repeat_interleave(samples)
                cached_model.select_rows(rows)
                idx, logits = idx[rows], logits[rows]
            new = choose(logits, idx)  # [B, 1]
            stuck = stuck | (new == NO_CHOICE) & ~ended & ~full  # [B, 1]
            if eos_id is not None:
                new = new.masked_fill(ended, eos_id)  # [B, 1]
                ended = ended | (new == eos_id) & ~full & ~stuck  # [B, 1]
            yield Step(new.masked_fill(full, PAD).masked_fill(stuck, NO_CHOICE), logits)
            if eos_id is not None and (ended | stuck).all():
                return
            idx = torch.cat([idx, new.clamp(min=0)], dim=1)  # [B, S]


def _space_left(idx: Tensor, size: int) -> Tensor:
    """Number of tokens that still fit each row: one more than the model reads, [B, 1]."""
    return size + 1 - (idx >= 0).sum(1, keepdim=True)
