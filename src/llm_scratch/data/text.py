"""The notebooks' data loader: windows of tokens, and the same windows one token later as targets.

`GPTDatasetV1` and `create_dataloader_V1` keep the notebooks'
names and their batch order for a seed.
Tests: tests/data/test_text.py (the notebooks' printed batches). Lesson: lessons/step1_text.py.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.worker_processes import can_have_workers

if TYPE_CHECKING:
    from llm_scratch.tokenizers import Tokenizer


class GPTDatasetV1(Dataset[tuple[Tensor, Tensor]]):
    """Training examples of a text: example i is `max_length` tokens from token `i * stride` on.

    Its targets are the same window one token later.

    Args:
        txt: the text.
        tokenizer: anything with tiktoken's `encode`.
        max_length: tokens per example, T.
        stride: tokens between the starts of two examples; with `max_length` they do not overlap.
        allowed_special: special tokens, such as "<|endoftext|>", to recognize in the text;
            others are encoded as plain text.
    Attributes:
        input_ids, target_ids: [N, T] int64, views of one row of tokens: overlap costs no memory.
    Raises:
        UserError: the text has no more than `max_length` tokens: not one example (code 3).
        ValueError: `max_length` or `stride` below 1.
    """

    def __init__(
        self,
        txt: str,
        tokenizer: Tokenizer,
        max_length: int,
        stride: int,
        *,
        allowed_special: Set[str] = frozenset(),
    ) -> None:
        if max_length < 1 or stride < 1:
            raise ValueError(f"max_length={max_length} and stride={stride} must both be at least 1")
        encoded = tokenizer.encode(txt, allowed_special=set(allowed_special), disallowed_special=())
        ids = torch.tensor(encoded, dtype=torch.int64)
        if len(ids) <= max_length:
            raise UserError(
                f"the text has {len(ids)} tokens, one example of max_length={max_length} "
                f"needs {max_length + 1}; use a longer text or a smaller max_length",
                DATA,
            )
        self.input_ids = ids[:-1].unfold(0, max_length, stride)
        self.target_ids = ids[1:].unfold(0, max_length, stride)

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        return self.input_ids[idx], self.target_ids[idx]


def create_dataloader_V1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: Tokenizer | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Training batches of a text: pairs (inputs [B, T], targets [B, T]) of token ids.

    Args:
        txt, max_length, stride: as in `GPTDatasetV1`; T is max_length.
        batch_size: examples per batch, B.
        shuffle: reshuffle each epoch, from torch's global seed (`torch.manual_seed`).
        drop_last: drop an incomplete last batch.
        num_workers: extra loader processes; 0 is fastest here, since the tokens are in memory.
            A warning says where the system cannot start any.
        tokenizer: the tokenizer (default: GPT-2's).
    Raises:
        UserError: not one example, or with `drop_last` not one batch (code 3).
    """
    if tokenizer is None:
        from llm_scratch.tokenizers import TOKENIZERS

        tokenizer = TOKENIZERS["gpt2"]([], None)
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise UserError(
            f"the text gives {len(dataset)} examples of {max_length} tokens, "
            f"less than one batch of {batch_size}; "
            "use a longer text, a smaller batch_size, or drop_last=False",
            DATA,
        )
    if num_workers and not can_have_workers():
        num_workers = 0
    return DataLoader(
        dataset, batch_size, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers
    )


def split_text(text: str, train_share: float = 0.9) -> tuple[str, str]:
    """The notebooks' split of a text by characters. Returns (train, validation).

    It may split a word, whose two parts then encode differently; `llm-scratch train` splits tokens.

    Raises:
        ValueError: `train_share` is not between 0 and 1.
    """
    if not 0 < train_share < 1:
        raise ValueError(f"train_share={train_share} must be between 0 and 1")
    cut = int(train_share * len(text))
    return text[:cut], text[cut:]
