"""A batch of texts that are decoded together, each with its own settings; rows may join and leave.

`engine.Engine` decides which rows form a batch. The ids are padded on the left to the longest row,
and the cache holds all but the newest token of each.
Tests: tests/generation/test_engine.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from llm_scratch.generation.cached_model import PAD, CachedModel, pad_left
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.constrain import Constraint
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.generation.row import Row
from llm_scratch.generation.sampling import seeded
from llm_scratch.generation.steps import TokenChooser, build_sampler
from llm_scratch.model.introspection import context_length, device_of
from llm_scratch.model.kv_cache import KVCache


class SampledRow(Row):
    """A text whose tokens are sampled, with a random generator of its own.

    Args:
        id: its id in the engine.
        model: the model that continues it.
        prompt, config, tokenizer: as in `Row`.
    Attributes:
        n_vocab: tokens of the tokenizer; None: all of the model's.
        generator: None without a seed.
        choose: for a row that needs a sampler with a state of its own (constraint, mirostat).
    """

    def __init__(
        self,
        id: int,
        model: torch.nn.Module,
        prompt: Sequence[int],
        config: GenerationConfig,
        tokenizer: Any | None,
    ) -> None:
        super().__init__(prompt, config, tokenizer, context_length(model))
        self.id = id
        self.n_vocab = None if tokenizer is None else tokenizer.n_vocab
        self.generator = None if config.seed is None else seeded(config.seed, device_of(model))
        self.choose: TokenChooser | None = None
        constraint = None
        if config.regex is not None or config.json_schema is not None:
            constraint = Constraint(tokenizer, regex=config.regex, json_schema=config.json_schema)
        if constraint is not None or config.mirostat is not None:
            self.choose = build_sampler(
                self.generator,
                n_vocab=self.n_vocab,
                constraint=constraint,
                mirostat=config.mirostat,
                **config.sampling(),
            )


class _Group(NamedTuple):
    """Rows with equal sampling settings, which one call samples."""

    members: list[int]
    choose: TokenChooser


class RowBatch:
    """Texts that are decoded together.

    Args:
        rows: the texts.
        idx: [B, S], their ids; fewer than rows if `copies` says which belongs to each row.
        reader: computes their logits, and holds their cache.
        slides: whether they are longer than the context, so that each step reads the whole window.
        copies: index into `idx` for each row, so that a prompt is read once for several samples.
    """

    def __init__(
        self,
        rows: Sequence[SampledRow],
        idx: Tensor,
        reader: CachedModel,
        slides: bool,
        copies: Sequence[int] | None = None,
    ) -> None:
        self.rows = list(rows)
        self.idx = idx
        self.reader = reader
        self.slides = slides
        self._copies = copies
        self._groups: list[_Group] = []

    @classmethod
    def of_prompts(cls, rows: Sequence[SampledRow], reader: CachedModel, slides: bool) -> RowBatch:
        """A batch of rows without tokens yet; equal prompts will be read once."""
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        copies = [prompts.index(row.prompt) for row in rows] if len(prompts) < len(rows) else None
        return cls(rows, pad_left(prompts, device_of(reader.model)), reader, slides, copies)

    def reuse(self, cache: KVCache | None) -> None:
        """Use a cache with as many rows; tokens that it shares with the prompts are kept."""
        if cache is not None and cache.rows == len(self.idx):
            self.reader.append(cache, self.idx)

    def step(self) -> dict[int, TextChunk]:
        """Generate a token for every row: the chunk of each, by its id."""
        logits = self.reader(self.idx)[:, -1]  # [B, V]
        if self._copies is not None:
            self.reader.select_rows(self._copies)
            self.idx, logits = _rows_of(self.idx, self._copies), _rows_of(logits, self._copies)
            self._copies = None
        tokens = self._choose(logits)  # [B, 1]
        self.idx = torch.cat([self.idx, tokens.clamp(min=0)], dim=1)
        logits = logits[:, : self.rows[0].n_vocab]
        pushed = zip(self.rows, tokens.flatten().tolist(), logits, strict=True)
        return {row.id: row.push(token, row_logits) for row, token, row_logits in pushed}

    def keep(self, kept: Sequence[int]) -> None:
        """Drop the other rows, and the padding that only they required."""
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in kept]
        self.idx = _rows_of(self.idx, kept)
        self._groups = []
        n_padding = self.idx.shape[1] - max(row.length for row in self.rows)
        if self.slides:
            self.reader.cache = None  # each step fills it again
        elif self.reader.cache is not None:
            self.reader.cache.select_rows(kept)
            if n_padding:
                self.reader.cache.drop_padding(n_padding)
        self.idx = self.idx[:, n_padding:]

    def sliding(self, outgrown: Sequence[int]) -> RowBatch:
        """A batch of these rows, which have outgrown the context, without a cache yet."""
        reader = CachedModel(self.reader.model, prefill_chunk=self.reader.chunk)
        rows = [self.rows[i] for i in outgrown]
        return RowBatch(rows, _rows_of(self.idx, outgrown), reader, slides=True)

    def merge(self, other: RowBatch) -> None:
        """Add the rows of a batch that slides as this one does."""
        if self.slides:
            self.reader.cache = None
        elif self.reader.cache is not None and other.reader.cache is not None:
            self.reader.cache.merge(other.reader.cache)
        longest = max(self.idx.shape[1], other.idx.shape[1])
        parts = (self.idx, other.idx)
        self.idx = torch.cat([F.pad(idx, (longest - idx.shape[1], 0), value=PAD) for idx in parts])
        self.rows += other.rows
        self._groups = []

    def _choose(self, logits: Tensor) -> Tensor:
        """Choose the next token of every row by its own settings: [B, V] -> [B, 1]."""
        if not self._groups:
            self._groups = _grouped(self.rows)
        if len(self._groups) == 1:
            return self._groups[0].choose(logits, self.idx)  # [B, 1]
        tokens = self.idx.new_empty(len(self.rows), 1)  # [B, 1]
        for members, choose in self._groups:
            index = torch.tensor(members, device=tokens.device)
            tokens[index] = choose(logits[index], self.idx[index])
        return tokens  # [B, 1]


def _rows_of(x: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows of a tensor, in this order; the index is made on its device."""
    return x[torch.tensor(rows, device=x.device)]


def _grouped(rows: Sequence[SampledRow]) -> list[_Group]:
    """Group rows by sampling settings; a row with a sampler of its own stays alone."""
    alike: list[tuple[Any, list[int]]] = []
    groups: list[_Group] = []
    for i, row in enumerate(rows):
        if row.choose is not None:
            groups.append(_Group([i], row.choose))
            continue
        key = row.config.sampling(), row.generator is None
        members = next((members for other, members in alike if other == key), None)
        if members is None:
            alike.append((key, [i]))
        else:
            members.append(i)
    for (sampling, _), members in alike:
        generators = [rows[i].generator for i in members]
        own = [generator for generator in generators if generator is not None]
        choose = build_sampler(own or None, n_vocab=rows[0].n_vocab, **sampling)
        groups.append(_Group(members, choose))
    return groups
