"""Measure memorization: how much generated text occurs word for word in the training text.

Two texts of one kind share runs of tokens without copying ("once upon a time"), so the share is
only meaningful compared with that of validation text, which the model was not trained on.
`SuffixIndex` finds runs, `overlap` counts them.
Tests: tests/evaluation/test_memorization.py (equal to a plain search).
Source: Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models",
https://arxiv.org/abs/2202.07646, section 3; suffix array by doubling, Manber and Myers 1993,
https://doi.org/10.1137/0222058, with a numpy sort in each round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from llm_scratch.data.shards import Tokens
from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.decode import generate
from llm_scratch.generation.sampling import seeded
from llm_scratch.model.introspection import device_of
from llm_scratch.model.language_model import as_language_model
from llm_scratch.ranges import check

WINDOW = 20  # tokens: longer runs are rarely shared by chance
MAX_INDEX_TOKENS = 50_000_000  # of the training text, at 60 bytes of memory each
# after the last token, and between two rows: not tokens, and different from each other
END, SEPARATOR = -1, -2
BATCH = 32  # texts generated at once
Ids = Sequence[int] | Tokens


def suffix_array(ids: Ids) -> np.ndarray:
    """The suffix array: positions of a text in the order of their suffixes. [n] -> [n].

    Sorted by one token first, then by two, four, eight ...: the order of the second half is known
    from the round before.
    """
    rank = np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64)
    length = 1
    n = len(ids)
    while True:
        second = np.zeros(n, dtype=np.int64)  # 0: past the end of the text
        second[: max(0, n - length)] = rank[length:] + 1
        key = rank * (n + 1) + second
        order = np.argsort(key, kind="stable")
        new = np.diff(key[order], prepend=-1) != 0
        if new.all():
            return order
        rank[order] = new.cumsum() - 1
        length *= 2


class SuffixIndex:
    """A suffix array of a text, to find runs of tokens quickly, however long the text is.

    Args:
        ids: the token ids of the text, none below 0; at most the first `MAX_INDEX_TOKENS` are
            indexed.
    Attributes:
        n_tokens: number of indexed tokens.
    Raises:
        UserError: the text is empty (exit code 3).
    """

    def __init__(self, ids: Ids) -> None:
        self.ids = np.asarray(ids[:MAX_INDEX_TOKENS], dtype=np.int64)
        self.n_tokens = len(self.ids)
        if not self.n_tokens:
            raise UserError("the training text is empty; there is nothing to search in", DATA)
        self.order = suffix_array(self.ids)

    def matches(self, rows: Sequence[Ids]) -> list[np.ndarray]:
        """The length of the longest run from each position of each row that occurs in the text.

        All positions are searched at once. Suffixes that begin with the same tokens are adjacent in
        `order`: each position keeps such a range, and every further token narrows it until it is
        empty.
        """
        parts = [np.append(np.asarray(row, dtype=np.int64), SEPARATOR) for row in rows]
        tokens = np.concatenate([np.empty(0, dtype=np.int64), *parts])
        lengths, low, high = (np.full(len(tokens), value) for value in (0, 0, self.n_tokens))
        alive = np.arange(len(tokens))
        depth = 0
        while len(alive):
            # never past the end: the last one is a SEPARATOR, which matches nothing
            token = tokens[alive + depth]
            low[alive], high[alive] = (
                self._first(low[alive], high[alive], depth, token + offset) for offset in (0, 1)
            )
            alive = alive[low[alive] < high[alive]]
            depth += 1
            lengths[alive] = depth
        ends = np.cumsum([len(part) for part in parts])
        return [lengths[end - len(part) : end - 1] for part, end in zip(parts, ends)]

    def _first(
        self, low: np.ndarray, high: np.ndarray, depth: int, token: np.ndarray
    ) -> np.ndarray:
        """Search each range of `order` for the first suffix with a token >= `token` at `depth`."""
        while (open_ := low < high).any():
            middle = (low + high) // 2
            at = self.order[np.minimum(middle, self.n_tokens - 1)] + depth
            below = (
                np.where(at < self.n_tokens, self.ids[np.minimum(at, self.n_tokens - 1)], END)
                < token
            )
            low, high = (
                np.where(open_ & below, middle + 1, low),
                np.where(open_ & ~below, middle, high),
            )
        return low


@dataclass(frozen=True)
class Overlap:
    """Runs of tokens that texts share with a training text, word for word.

    Attributes:
        run: the longest shared run of tokens.
        n_windows: windows of `WINDOW` tokens (or the requested number), one at every position of
            the texts.
        n_found: windows that occur in the training text.
        stderr: standard error of `share`, from the spread between texts, since adjacent windows
            overlap.
    """

    run: tuple[int, ...]
    n_windows: int
    n_found: int
    stderr: float

    @property
    def longest(self) -> int:
        """Tokens in the longest run."""
        return len(self.run)

    @property
    def share(self) -> float:
        """The share of windows that occur in the training text, 0 to 1; nan without a window."""
        return self.n_found / self.n_windows if self.n_windows else math.nan


def overlap(index: SuffixIndex, rows: Sequence[Ids], window: int = WINDOW) -> Overlap:
    """Count the windows of texts that occur in the training text, and find the longest shared run.

    Rows shorter than a window have no window, but may have the longest run.

    The standard error is that of a ratio of sums (Cochran 1977, "Sampling Techniques", section
    6.4); it is nan for fewer than two rows with a window.

    Raises:
        UserError: a window below 1.
    """
    check("window", window)
    matches = index.matches(rows)
    longest_in_rows = ((int(m.max()), i, int(m.argmax())) for i, m in enumerate(matches) if len(m))
    length, row, start = max(longest_in_rows, default=(0, 0, 0))
    run = tuple(int(token) for token in rows[row][start : start + length]) if length else ()
    counts = np.array(
        [(len(m) - window + 1, (m >= window).sum()) for m in matches if len(m) >= window]
    ).reshape(-1, 2)
    n_windows, n_found = (int(total) for total in counts.sum(0))
    n = len(counts)
    spread = ((counts[:, 1] - counts[:, 0] * n_found / max(1, n_windows)) ** 2).sum()
    stderr = math.sqrt(spread * n / (n - 1)) / n_windows if n > 1 else math.nan
    return Overlap(run, n_windows, n_found, stderr)


def sample_passages(
    ids: Ids, n: int, length: int, start_id: int | None, seed: int, min_tokens: int = 2
) -> list[np.ndarray]:
    """Random passages of a text, each of `length` tokens.

    For a model with a `start_id` a passage begins with it. Where the documents of the text do too,
    a passage is the beginning of one: it is as short as the document, and documents of fewer than
    `min_tokens` tokens are left out.

    Returns:
        At most n rows; fewer if a text has fewer documents.
    Raises:
        UserError: no passage has `min_tokens` tokens (exit code 3).
    """
    ids = np.asarray(ids[:MAX_INDEX_TOKENS])
    rng = np.random.default_rng(seed)
    passages: list[np.ndarray] = []
    starts = np.flatnonzero(ids == start_id) if start_id is not None else np.empty(0, np.int64)
    if not len(starts):
        first = np.array([] if start_id is None else [start_id], ids.dtype)
        size = min(length - len(first), len(ids))
        if size + len(first) >= min_tokens:
            places = rng.integers(0, len(ids) - size + 1, n)
            passages = [np.concatenate([first, ids[at : at + size]]) for at in places]
    else:
        sizes = np.diff([*starts, len(ids)])
        long = np.flatnonzero(sizes >= min_tokens)
        passages = [ids[starts[i] :][: min(length, sizes[i])] for i in rng.permutation(long)[:n]]
    if not passages:
        raise UserError(
            f"no passage of {min_tokens} tokens in a text of {len(ids)}; request shorter ones", DATA
        )
    return passages


def continuations(
    model: nn.Module,
    prompts: Sequence[Ids],
    max_new_tokens: int,
    temperature: float,
    seed: int,
    n_vocab: int | None = None,
) -> list[list[int]]:
    """Generate continuations of prompts of one length, without the prompts, to the text's end.

    Args:
        model: as `generate` takes it.
        prompts: token ids, all of the same length.
        max_new_tokens: of each continuation.
        temperature: 1 samples from the model's distribution, 0 takes the most likely token.
        seed: row i uses seed + i.
        n_vocab: tokens of the tokenizer, as in `steps.build_sampler`.
    """
    eos = as_language_model(model).start_id
    device = device_of(model)
    rows: list[list[int]] = []
    for first in range(0, len(prompts), BATCH):
        batch = np.array(prompts[first : first + BATCH], dtype=np.int64)
        idx = torch.tensor(batch, device=device)  # [B, T]
        generators = [seeded(seed + first + i, device) for i in range(len(idx))]
        options: dict[str, Any] = {
            "temperature": temperature,
            "generator": generators,
            "n_vocab": n_vocab,
            "eos_id": eos,
        }
        rows += generate(model, idx, max_new_tokens, **options)[:, idx.shape[1] :].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]
