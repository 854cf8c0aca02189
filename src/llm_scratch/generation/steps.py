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
from llm_scratch.generation.mirostat import Mirostat
from llm_scratch.generation.reader import Reader
from llm_scratch.generation.sampling import Generators, bend, greedy, sample
from llm_scratch.model.running import evaluating

Bend = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> logits [B, V]"""
Choose = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, V], the text so far [B, S]) -> the next token of each row [B, 1]"""


class Step(NamedTuple):
    """One new token for each row: its ids [B, 1], and the scores [B, V] that the model gave before anything bent them."""

    ids: Tensor
    logits: Tensor


def chooser(
    generator: Generators = None,
    *,
    n_vocab: int | None = None,
    constraint: Bend | None = None,
    mirostat: float | None = None,
    **settings: Any,
) -> Choose:
    """How to choose a token: what may come, then penalties, samplers, mirostat, and the draw.

    Args:
        generator: as in `sampling.sample`.
        n_vocab: how many tokens the tokenizer has; a vocabulary rounded up to a fast size has scores without tokens.
        constraint: forbids what may not come, as `constrain.Constraint` does.
        mirostat: bits a token; see `mirostat.Mirostat`.
        settings: as in `sampling.bend`.
    Raises:
        UserError: mirostat at temperature 0, where there is nothing to steer.
    """
    steer = None if mirostat is None else Mirostat(mirostat)
    if steer is not None and settings.get("temperature") == 0:
        raise UserError("mirostat steers what is drawn, and temperature=0 draws nothing; leave out one of the two")

    def choose(logits: Tensor, ids: Tensor) -> Tensor:
        logits = logits[:, :n_vocab]
        if constraint is not None:
            logits = constraint(logits, ids)
        bent = bend(logits, ids, **settings)  # [B, V]
        if settings.get("temperature") == 0:
            return greedy(bent)
        return sample(bent if steer is None else steer(bent, ids), generator)

    return choose


@torch.no_grad()
def steps(
    model: nn.Module,
    idx: Tensor,
    choose: Choose,
    *,
    context_size: int | None = None,
    eos_id: int | None = None,
    samples: int = 1,
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
) -> Iterator[Step]:
    """Continue each row of `idx` one token at a time, without end, or until every row has said `eos_id`.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`; in eval mode while this runs, as it was afterwards.
        idx: [B, T], the prompts; shorter ones have blanks before them, as `pad_left` makes them.
        choose: as `chooser` makes it.
        context_size, prefill_chunk: as in `Reader`.
        samples: continuations of each prompt, side by side; the prompt is read once.
        on_full: when the longest row fills the context, "slide" lets the oldest token leave at each step, "stop" ends.
    Yields:
        A `Step` of B * samples rows, the samples of a prompt together; `eos_id` again and again in a row that has ended.
    """
    reader = Reader(model, context_size, prefill_chunk)
    ended = torch.zeros(len(idx) * samples, 1, dtype=torch.bool, device=idx.device)  # [B, 1]
    with evaluating(model):
        while on_full == "slide" or reader.size is None or idx.shape[1] <= reader.size:
            logits = reader(idx)[:, -1]  # [B, V]
            if len(idx) < len(ended):
                rows = torch.arange(len(idx), device=idx.device).repeat_interleave(samples)
                reader.pick(rows)
                idx, logits = idx[rows], logits[rows]
            new = choose(logits, idx)  # [B, 1]
            if eos_id is not None:
                new = new.masked_fill(ended, eos_id)  # [B, 1]
                ended = ended | (new == eos_id)  # [B, 1]
            yield Step(new, logits)
            if eos_id is not None and ended.all():
                return
            idx = torch.cat([idx, new], dim=1)  # [B, S]
