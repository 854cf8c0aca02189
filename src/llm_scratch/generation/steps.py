"""The one loop: ask the model for the next token, put it at the end, ask again.

Every way of writing (this one, and those in contrastive.py, speculative.py, beam.py) gives a `Step` for each new token, so that all of
them become text in the same place, pieces.py. Proof: tests/generation/test_decode.py. Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import NO_CHOICE, PAD, CachedModel
from llm_scratch.generation.mirostat import Mirostat
from llm_scratch.generation.sampling import Generators, exhausted, greedy, process_logits, sample
from llm_scratch.model.introspection import eval_mode
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.ranges import check

LogitsProcessor = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> logits [B, V]"""
TokenChooser = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> the next token of each row [B, 1], or `reader.NO_CHOICE`"""


class Step(NamedTuple):
    """One new token for each row: its ids [B, 1], and the scores [B, V] that the model gave before anything bent them."""

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
    """How to choose a token: what may come, then penalties, samplers, mirostat, and the draw.

    Args:
        generator: as in `sampling.sample`.
        n_vocab: how many tokens the tokenizer has; a vocabulary rounded up to a fast size has scores without tokens.
        constraint: forbids what may not come, as `constrain.Constraint` does.
        mirostat: bits a token; see `mirostat.Mirostat`.
        settings: as in `sampling.bend`.
    Raises:
        UserError: a setting out of its range; mirostat at temperature 0, where there is nothing to steer.
    """
    for name, value in settings.items():
        check(name, value)
    steer = None if mirostat is None else Mirostat(mirostat)
    if steer is not None and settings.get("temperature") == 0:
        raise UserError("mirostat steers what is drawn, and temperature=0 draws nothing; leave out one of the two")

    def choose(logits: Tensor, ids: Tensor) -> Tensor:
        logits = logits[:, :n_vocab]
        if constraint is not None:
            logits = constraint(logits, ids)
        bent = process_logits(logits, ids, **settings)  # [B, V]
        none = exhausted(bent)  # [B, 1]
        if settings.get("temperature") == 0:
            return greedy(bent).masked_fill(none, NO_CHOICE)
        bent = bent if steer is None else steer(bent, ids)
        return sample(bent.masked_fill(none, 0.0), generator).masked_fill(none, NO_CHOICE)

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
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
) -> Iterator[Step]:
    """Continue each row of `idx` one token at a time, without end, or until every row has said `eos_id` or is full.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`; in eval mode while this runs, as it was afterwards.
        idx: [B, T], the prompts; shorter ones have blanks before them, as `pad_left` makes them.
        choose: as `chooser` makes it.
        context_size, prefill_chunk: as in `Reader`.
        samples: continuations of each prompt, side by side; the prompt is read once.
        on_full: when a row fills the context, "slide" lets its oldest token leave at each step, "stop" ends that row.
        cache: of `model.new_cache(B)`, to say how its memory comes (`block`), or to go on: what it holds of `idx` is not read again, and
            it holds the new tokens afterwards, a row for each sample. None: one of its own.
    Yields:
        A `Step` of B * samples rows, the samples of a prompt together; in a row that has ended `eos_id` again and again, in one that is
        full `reader.BLANK`, in one that has no token left to choose `reader.NO_CHOICE`.
    """
    reader = CachedModel(model, context_size, prefill_chunk)
    if cache is not None:
        reader.append(cache, idx)
    size, left = reader.size if on_full == "stop" else None, None
    ended = torch.zeros(len(idx) * samples, 1, dtype=torch.bool, device=idx.device)  # [B, 1]
    full = stuck = ended
    if size is not None:
        # tokens that each row may still get, [B, 1]
        left = (size + 1 - (idx >= 0).sum(1, keepdim=True)).repeat_interleave(samples, 0)
    with eval_mode(model):
        while True:
            if size is not None and left is not None:
                full = ~ended & ~stuck & (left <= 0)
                if not (going := ~ended & ~full & ~stuck).any():
                    return
                if idx.shape[1] > size:  # the longest is full: the others go on without the blanks that it made them have
                    idx = idx[:, int(left[going].min()) - size - 1 :]
                    reader.rewind(0)
                left = left - 1
            logits = reader(idx)[:, -1]  # [B, V]
            if len(idx) < len(ended):
                rows = torch.arange(len(idx), device=idx.device).repeat_interleave(samples)
                reader.select_rows(rows)
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
