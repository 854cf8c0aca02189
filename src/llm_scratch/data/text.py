"""One text cut into training examples: a window of tokens, and the same window one token later.

The notebooks' two names, `GPTDatasetV1` and `create_dataloader_V1`, with their order of batches under a seed.
Proof: tests/data/test_text.py (the notebooks' printed batches). Lesson: lessons/step1_text.py.
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
    """Every training example of a text: example i is `max_length` tokens from token `i * stride` on, and what follows each of them.

    Args:
        txt: the text.
        tokenizer: anything with tiktoken's `encode`.
        max_length: tokens in an example, T.
        stride: tokens from the start of one example to the start of the next; `max_length` means that none overlap.
        allowed_special: special tokens, such as "<|endoftext|>", that are meant where the text spells them; elsewhere they are plain text.
    Attributes:
        input_ids, target_ids: [N, T] int64, views of one row of tokens: the overlap costs no memory.
    Raises:
        UserError: the text has no more than `max_length` tokens, so that not one example fits (code 3).
        ValueError: `max_length` or `stride` below 1.
    """

    def __init__(self, txt: str, tokenizer: Tokenizer, max_length: int, stride: int, *, allowed_special: Set[str] = frozenset()) -> None:
        if max_length < 1 or stride < 1:
            raise ValueError(f"max_length={max_length} and stride={stride} must both be at least 1")
        ids = torch.tensor(tokenizer.encode(txt, allowed_special=set(allowed_special), disallowed_special=()), dtype=torch.int64)
        if len(ids) <= max_length:
            raise UserError(
                f"the text has {len(ids)} tokens, and one example of max_length={max_length} needs {max_length + 1}; "
                "give a longer text or a smaller max_length",
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
    """Batches of a text, ready for training: pairs (inputs [B, T], targets [B, T]) of token ids.

    Args:
        txt, max_length, stride: as in `GPTDatasetV1`; T is max_length.
        batch_size: examples in a batch, B.
        shuffle: draw the order anew each epoch, from torch's global seed (`torch.manual_seed`).
        drop_last: leave out a last batch that is not full.
        num_workers: extra processes that fetch; 0 is fastest here, since the tokens are in memory. A warning says so
            where the system can have none.
        tokenizer: None is GPT-2's.
    Raises:
        UserError: not one example, or with `drop_last` not one batch, fits in the text (code 3).
    """
    if tokenizer is None:
        from llm_scratch.tokenizers import TOKENIZERS

        tokenizer = TOKENIZERS["gpt2"]([], None)
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise UserError(
            f"the text gives {len(dataset)} examples of {max_length} tokens, less than one batch of {batch_size}; "
            "give a longer text, a smaller batch_size, or drop_last=False",
            DATA,
        )
    if num_workers and not can_have_workers():
        num_workers = 0
    return DataLoader(dataset, batch_size, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers)


def split_text(text: str, train_share: float = 0.9) -> tuple[str, str]:
    """The notebooks' split: the first share of the characters to train on, the rest to test with. Returns (train, validation).

    It may cut a word in two, and the two ends then encode differently; runs of this project split by tokens instead.

    Raises:
        ValueError: `train_share` is not between 0 and 1.
    """
    if not 0 < train_share < 1:
        raise ValueError(f"train_share={train_share} must be between 0 and 1")
    cut = int(train_share * len(text))
    return text[:cut], text[cut:]
