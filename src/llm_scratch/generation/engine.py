"""The generation engine: one running batch, which texts join and leave at any step.

    engine = Engine(model, tokenizer)
    id = engine.add(encode_prompt(model, tokenizer, "The story"), GenerationConfig(seed=1))
    while engine:
        for id, chunk in engine.step().items(): ...

`decode.stream` and the others are clients for a fixed number of texts; a server is one for texts
that come and go.
Tests: tests/generation/test_engine.py (each text is the one that it is alone).
Source: Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", https://www.usenix.org/conference/osdi22/presentation/yu, section 3.1 (iteration-level
scheduling).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from llm_scratch.generation.cached_model import CachedModel, check_prompt
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.generation.penalties import check_logit_bias
from llm_scratch.generation.row_batch import RowBatch, SampledRow
from llm_scratch.model.introspection import eval_mode, vocab_size
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.ranges import check


class Engine:
    """Generates several texts in one running batch; each gets the same tokens as alone.

    How a text joins: at the next step the prompts of all texts that were added since the last one
    are read together, padded to the longest, and equal prompts once. Their keys and values are then
    copied into the cache of the running batch, aligned at the last token. Joining therefore costs
    one forward pass over the new prompts, during which the running texts wait, and one copy of the
    whole cache. A text that leaves costs a copy of the cache of the others.

    A text that is longer than the context leaves for a second batch, in which each step reads the
    whole window; the others keep their cache.

    When the last text has left, its cache is kept, and a next prompt that begins with the same
    tokens is read from there on: a chat reads only its last turn.

    An engine is for one thread.

    Args:
        model: put into eval mode; `close`, or leaving a `with` block, restores its mode.
        tokenizer: with tiktoken's `decode_bytes`, `n_vocab` and `eot_token`. None: chunks have ids
            and no text, and no token ends a text.
        prefill_chunk: as in `CachedModel`.
        cache: of `model.new_cache(1)`, for the first text; it may hold tokens of its prompt.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any | None = None,
        *,
        prefill_chunk: int | None = None,
        cache: KVCache | None = None,
    ) -> None:
        check("prefill_chunk", prefill_chunk)
        self.model = model
        self.tokenizer = tokenizer
        self._chunk = prefill_chunk
        self._spare_cache = cache
        self._added: list[SampledRow] = []
        self._batches: list[RowBatch] = []
        self._n_added = 0
        self._mode = ExitStack()
        self._mode.enter_context(eval_mode(model))

    def add(self, prompt: Sequence[int], config: GenerationConfig | None = None) -> int:
        """Add a text to the batch; its first token comes at the next step.

        Args:
            prompt: token ids, at least one.
            config: its settings.
        Returns:
            Its id in `step` and `remove`.
        Raises:
            UserError: an empty prompt, an id outside the vocabulary, or settings that need a
                tokenizer or do not fit this one.
        """
        config = config or GenerationConfig()
        check_prompt(self.model, torch.tensor([list(prompt)], dtype=torch.long))
        row = SampledRow(self._n_added, self.model, prompt, config, self.tokenizer)
        n_vocab = row.n_vocab or vocab_size(self.model)
        if config.logit_bias is not None and n_vocab is not None:
            check_logit_bias(config.logit_bias, n_vocab)
        self._n_added += 1
        self._added.append(row)
        return row.id

    @torch.no_grad()
    def step(self) -> dict[int, TextChunk]:
        """Generate one token of every text.

        New prompts are read first: if that fails, for want of memory, only the new texts are lost.

        Returns:
            The chunk of each text by its id, in the order of `add`. The last chunk of a text has a
            `stop_reason`, and the text has left the batch.
        """
        added, self._added = self._added, []
        chunks = {}
        for row in added:
            reason = row.reached_limit()
            if reason is not None:
                chunks[row.id] = row.end(reason)
        new = self._batches_of([row for row in added if row.stop_reason is None])
        for batch in (*new, *self._batches):
            chunks |= batch.step()
        self._regroup([*self._batches, *new])
        return dict(sorted(chunks.items()))

    def remove(self, id: int) -> None:
        """Remove a text before its end; does nothing for one that has ended."""
        self._added = [row for row in self._added if row.id != id]
        if id in self:
            self._regroup(self._batches, removed=id)

    def __contains__(self, id: object) -> bool:
        return any(row.id == id for row in self._rows())

    def __len__(self) -> int:
        return sum(1 for _ in self._rows())

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove all texts, free the cache and restore the model's mode."""
        self._added, self._batches, self._spare_cache = [], [], None
        self._mode.close()

    def _rows(self) -> Iterator[SampledRow]:
        """All texts that have not ended."""
        yield from self._added
        for batch in self._batches:
            yield from batch.rows

    def _batches_of(self, added: Sequence[SampledRow]) -> list[RowBatch]:
        """Batches of new texts: those that fit the context, and those that are longer."""
        batches = []
        for slides in (False, True):
            rows = [row for row in added if row.overflows == slides]
            if rows:
                reader = CachedModel(self.model, prefill_chunk=self._chunk)
                batches.append(RowBatch.of_prompts(rows, reader, slides))
        if batches and not batches[0].slides and not self._batches:
            batches[0].reuse(self._spare_cache)
        if batches:
            self._spare_cache = None
        return batches

    def _regroup(self, batches: Sequence[RowBatch], removed: int | None = None) -> None:
        """Drop texts that have ended; merge the others into one cached and one sliding batch."""
        merged: dict[bool, RowBatch] = {}
        for batch in batches:
            for part in self._parts_of(batch, removed):
                if part.slides in merged:
                    merged[part.slides].merge(part)
                else:
                    merged[part.slides] = part
        self._batches = list(merged.values())
        if batches and not self._batches:
            last = batches[-1]
            self._spare_cache = last.reader.cache if len(last.rows) == 1 else None

    def _parts_of(self, batch: RowBatch, removed: int | None) -> Iterator[RowBatch]:
        """The texts of a batch that continue: those that outgrew the context, those that fit."""
        outgrown: list[int] = []
        fitting: list[int] = []
        for i, row in enumerate(batch.rows):
            if row.stop_reason is None and row.id != removed:
                (outgrown if row.overflows and not batch.slides else fitting).append(i)
        if outgrown:
            yield batch.sliding(outgrown)
        if fitting:
            batch.keep(fitting)
            yield batch
