"""Does a model recite? How much of what it writes stands word for word in its training text, and how much of any text would.

Two texts of one kind share runs of tokens without copying ("once upon a time"), so a number means something only beside that of
held-out text, which the model has never seen. Read `Index` for how a run is found, `overlap` for what is counted.
Proof: tests/evaluation/test_memorization.py (equal to a plain search).
Source: Carlini et al. 2022, "Quantifying Memorization Across Neural Language Models", https://arxiv.org/abs/2202.07646, section 3; the
suffix array by doubling is Manber and Myers 1993, https://doi.org/10.1137/0222058, with a sort of numpy's in each round.
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
from llm_scratch.generation.decode import generate, seeded
from llm_scratch.model.introspection import device_of
from llm_scratch.ranges import check

WINDOW = 20  # tokens: longer runs are rarely shared by chance
MAX_INDEX_TOKENS = 50_000_000  # of the training text are looked through; 60 bytes of memory for each
END, GAP = -1, -2  # what stands after the last token, and between two rows: no token, and not each other
BATCH = 32  # texts written at once
Ids = Sequence[int] | Tokens


def suffix_array(ids: Ids) -> np.ndarray:
    """The places of a text in the order of what follows them, as a dictionary orders words. [n] -> [n].

    Ordered by one token first, then by two, four, eight ...: the order of the second half is known from the round before.
    """
    rank, length, n = np.unique(np.asarray(ids), return_inverse=True)[1].astype(np.int64), 1, len(ids)
    while True:
        second = np.zeros(n, dtype=np.int64)  # 0: the text is over
        second[: max(0, n - length)] = rank[length:] + 1
        key = rank * (n + 1) + second
        order = np.argsort(key, kind="stable")
        new = np.diff(key[order], prepend=-1) != 0
        if new.all():
            return order
        rank[order], length = new.cumsum() - 1, length * 2


class SuffixIndex:
    """A text in which runs of tokens are found quickly, however long the text.

    Args:
        ids: the token ids of the text, none below 0; of more than `MOST_TOKENS` the first are taken.
    Attributes:
        n_tokens: how many tokens are looked through.
    Raises:
        UserError: a text without a token (code 3).
    """

    def __init__(self, ids: Ids) -> None:
        self.ids = np.asarray(ids[:MAX_INDEX_TOKENS], dtype=np.int64)
        self.n_tokens = len(self.ids)
        if not self.n_tokens:
            raise UserError("the training text holds no token; nothing can be found in it", DATA)
        self.order = suffix_array(self.ids)

    def matches(self, rows: Sequence[Ids]) -> list[np.ndarray]:
        """For each place of each row: how many tokens from there on, without a gap, stand somewhere in the text.

        All places look at once. Those that begin with the same tokens are neighbours in `order`: each place holds such a stretch, and
        every further token narrows it, until nothing is left.
        """
        parts = [np.append(np.asarray(row, dtype=np.int64), GAP) for row in rows]
        joined = np.concatenate([np.empty(0, dtype=np.int64), *parts])
        lengths, low, high = (np.full(len(joined), value) for value in (0, 0, self.n_tokens))
        alive, depth = np.arange(len(joined)), 0
        while len(alive):
            token = joined[alive + depth]  # never past the end: the last is a GAP, which nothing matches
            low[alive], high[alive] = (self._first(low[alive], high[alive], depth, token + more) for more in (0, 1))
            alive = alive[low[alive] < high[alive]]
            depth += 1
            lengths[alive] = depth
        ends = np.cumsum([len(part) for part in parts])
        return [lengths[end - len(part) : end - 1] for part, end in zip(parts, ends)]

    def _first(self, low: np.ndarray, high: np.ndarray, depth: int, token: np.ndarray) -> np.ndarray:
        """In each stretch of `order`, the first place where the token after `depth` others is `token` or above; by halving."""
        while (open_ := low < high).any():
            middle = (low + high) // 2
            at = self.order[np.minimum(middle, self.n_tokens - 1)] + depth
            below = np.where(at < self.n_tokens, self.ids[np.minimum(at, self.n_tokens - 1)], END) < token
            low, high = np.where(open_ & below, middle + 1, low), np.where(open_ & ~below, middle, high)
        return low


@dataclass(frozen=True)
class Overlap:
    """What texts have in common with a training text, word for word.

    Attributes:
        run: the longest run of tokens that stands in both.
        n_windows: windows of `WINDOW` tokens, or as many as were asked for, at every place of the texts.
        n_found: how many of them stand in the training text.
        stderr: standard error of `share`; neighbouring windows overlap, so that it comes from the spread between texts.
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
        """Of all windows, those that stand in the training text, 0 to 1; nan without a window."""
        return self.n_found / self.n_windows if self.n_windows else math.nan


def overlap(index: SuffixIndex, rows: Sequence[Ids], window: int = WINDOW) -> Overlap:
    """Count what stands in the training text. Rows shorter than a window have none, and may still hold the longest run.

    The error is that of a ratio of sums (Cochran 1977, "Sampling Techniques", section 6.4); nan for fewer than two rows with a window.

    Raises:
        UserError: a window below 1.
    """
    check("window", window)
    matches = index.matches(rows)
    longest = max(((int(found.max()), i, int(found.argmax())) for i, found in enumerate(matches) if len(found)), default=(0, 0, 0))
    length, row, start = longest
    run = tuple(int(token) for token in rows[row][start : start + length]) if length else ()
    counts = np.array([(len(m) - window + 1, (m >= window).sum()) for m in matches if len(m) >= window]).reshape(-1, 2)
    n_windows, n_found = (int(total) for total in counts.sum(0))
    n = len(counts)
    spread = ((counts[:, 1] - counts[:, 0] * n_found / max(1, n_windows)) ** 2).sum()
    stderr = math.sqrt(spread * n / (n - 1)) / n_windows if n > 1 else math.nan
    return Overlap(run, n_windows, n_found, stderr)


def sample_passages(ids: Ids, n: int, length: int, start_id: int | None, seed: int, least: int = 2) -> list[np.ndarray]:
    """Pieces of a text at places drawn by chance, each of `length` tokens.

    For a model that learned one document a row (it has a `start_id`) a passage is a document's beginning, `start_id` included; it is
    shorter where the document is, and documents of fewer than `least` tokens are left out.

    Returns:
        At most n rows; fewer where a text has fewer documents.
    Raises:
        UserError: not one passage of `least` tokens (code 3).
    """
    ids, chance = np.asarray(ids[:MAX_INDEX_TOKENS]), np.random.default_rng(seed)
    if start_id is None:
        length = min(length, len(ids))
        found = [ids[at : at + length] for at in chance.integers(0, len(ids) - length + 1, n)] if length >= least else []
    else:
        starts = np.flatnonzero(ids == start_id)
        sizes = np.diff([*starts, len(ids)])
        long = np.flatnonzero(sizes >= least)
        found = [ids[starts[i] :][: min(length, sizes[i])] for i in chance.permutation(long)[:n]]
    if not found:
        raise UserError(f"no passage of {least} tokens in a text of {len(ids)}; ask for shorter ones", DATA)
    return found


def continuations(
    model: nn.Module, prompts: Sequence[Ids], max_new_tokens: int, temperature: float, seed: int, n_vocab: int | None = None
) -> list[list[int]]:
    """What a model writes after prompts of one length, the prompts not included, up to where it ends the text.

    Args:
        temperature: 1 draws as the model says, 0 takes the best token.
        seed: row i draws from seed + i.
        n_vocab: how many tokens the tokenizer has, as in `steps.chooser`.
    """
    eos, device, rows = getattr(model, "start_id", None), device_of(model), []
    for first in range(0, len(prompts), BATCH):
        idx = torch.tensor(np.array(prompts[first : first + BATCH], dtype=np.int64), device=device)  # [B, T]
        chance = [seeded(seed + first + i, device) for i in range(len(idx))]
        more: dict[str, Any] = {"temperature": temperature, "generator": chance, "n_vocab": n_vocab, "eos_id": eos}
        rows += generate(model, idx, max_new_tokens, **more)[:, idx.shape[1] :].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]
