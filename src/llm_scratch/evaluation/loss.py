"""Loss of a model on a text: nats per token, perplexity, bits per byte.

Bits per byte compare models of different vocabularies.

Every token but the first is scored exactly once, including the last, shorter window.
Tests: tests/evaluation/test_loss.py.
Source: bits per byte as in Gao et al. 2020, "The Pile", https://arxiv.org/abs/2101.00027, section
3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.model import introspection
from llm_scratch.model.introspection import check_ids, device_of, eval_mode, vocab_size
from llm_scratch.model.loss import IGNORE, next_token_loss
from llm_scratch.ranges import check
from llm_scratch.tokenizers.special import end_of_text, target_bytes

MAX_LOGITS = 2**27  # B x T x V in memory at once; 512 MiB as float32


@dataclass(frozen=True)
class Loss:
    """The loss of a model on a text. Losses of two texts can be added; the sum is exact.

    Attributes:
        nats: the sum over all scored tokens of -ln(probability of the token).
        n_tokens: number of scored tokens.
        n_bytes: bytes of text that these tokens encode; None if unknown.
    """

    nats: float
    n_tokens: int
    n_bytes: int | None = None

    @property
    def nats_per_token(self) -> float:
        """The cross-entropy that training minimizes. Uniform probabilities score ln(V)."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """Perplexity: the number of equally likely tokens with this loss, e to nats per token."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 709 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits to store a byte of text compressed by the model, for any tokenizer; 8 saves none."""
        return self.nats / math.log(2) / self.n_bytes if self.n_bytes else None

    def __add__(self, other: Loss) -> Loss:
        n_bytes = (
            None if self.n_bytes is None or other.n_bytes is None else self.n_bytes + other.n_bytes
        )
        return Loss(self.nats + other.nats, self.n_tokens + other.n_tokens, n_bytes)


def evaluate_tokens(
    model: nn.Module,
    ids: Sequence[int] | Tensor | np.ndarray,
    context_length: int | None = None,
    batch_size: int = 8,
    *,
    stride: int | None = None,
    tokenizer: Any = None,
    start_id: int | None = None,
) -> Loss:
    """The exact loss of a model on a sequence of token ids.

    The sequence is split into windows. A token is predicted from the earlier tokens of its window,
    so the first tokens of a window have little context. With a `stride` below `context_length`
    windows overlap, and each token is scored with the most context. With a `start_id` each window
    begins with this token, since the model has never seen one that does not.

    Args:
        model: as `decode.generate` takes it; in eval mode during the call.
        ids: at least 2; a memory-mapped array is read window by window. The first id is not scored,
            as it has no context.
        context_length: tokens in a window (default: the context of the model).
        batch_size: windows at once; fewer if their logits would exceed `MAX_LOGITS`.
        stride: tokens from one window to the next, at most `context_length` (default: windows do
            not overlap).
        tokenizer: for `n_bytes`, from `decode_bytes`. An end-of-text token adds nats and no byte.
        start_id: `model.start_id`, if the ids are one document that begins with it.
    Raises:
        UserError: fewer than 2 ids, an id outside the vocabulary (code 3), or a size that is not at
            least 1.
    """
    n_targets = len(ids) - 1
    if n_targets < 1:
        raise UserError(f"a loss needs at least 2 tokens; the text has {len(ids)}", DATA)
    check("context_length", context_length)
    check("batch_size", batch_size)
    check("stride", stride)
    size = _window_size(model, n_targets, context_length, stride)
    stride = min(stride or size, size)
    if start_id is not None:  # takes the place of a token, which the window before has scored
        stride = max(1, min(stride, size - 1))
    batch_size = rows_at_once(model, size, batch_size)
    nats = 0.0
    n_tokens = 0
    n_bytes = 0
    device = device_of(model)
    with eval_mode(model), torch.inference_mode():
        for inputs, targets in _batches(ids, size, stride, batch_size):
            is_scored = targets != IGNORE
            if tokenizer is not None:
                scored = [int(inputs[is_scored][0]), *targets[is_scored].tolist()]
                n_bytes += target_bytes(scored, tokenizer, start_id)
            if start_id is not None:
                inputs[:, 0] = start_id
            check_ids(model, inputs)
            losses = next_token_loss(model(inputs.to(device)), targets.to(device), "none")  # [B, T]
            nats += in_float64(losses).sum().item()
            n_tokens += int(is_scored.sum())
    return Loss(nats, n_tokens, None if tokenizer is None else n_bytes)


def rows_at_once(model: nn.Module, length: int, batch_size: int) -> int:
    """Return how many rows of `length` tokens fit into a batch, at least one.

    It is less than `batch_size` if the logits would exceed `MAX_LOGITS`.
    """
    return max(1, min(batch_size, MAX_LOGITS // (length * (vocab_size(model) or 1))))


def _window_size(
    model: nn.Module, n_targets: int, context_length: int | None, stride: int | None
) -> int:
    """Tokens of a window: the smallest limit.

    Raises:
        UserError: the stride exceeds it.
    """
    limits = (context_length, introspection.context_length(model), n_targets)
    size = min(limit for limit in limits if limit is not None)
    if stride is not None and stride > size and size < n_targets:
        raise UserError(
            f"stride={stride} would skip tokens; it must be at most the window of {size} tokens"
        )
    return size


def evaluate_text(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    context_length: int | None = None,
    batch_size: int = 8,
    *,
    stride: int | None = None,
) -> Loss:
    """The exact loss of a model on a text, every byte of it.

    The `start_id` of a model precedes the text, as in training; without one, the end-of-text
    token, if the tokenizer has one.

    A tokenizer that drops parts of a text (unknown words) makes bits per byte look better than they
    are.

    Raises:
        UserError: as `evaluate_tokens`; special tokens in the text are read as plain text.
    """
    first = first_token(model, tokenizer)
    ids = tokenizer.encode(text, disallowed_special=())
    loss = evaluate_tokens(
        model,
        ids if first is None else [first, *ids],
        context_length,
        batch_size,
        stride=stride,
        tokenizer=tokenizer if first is None else None,
        start_id=introspection.start_id(model),
    )
    if first is None:
        return loss
    # a lone surrogate counts as the three bytes of U+FFFD, which takes its place
    return Loss(loss.nats, loss.n_tokens, len(text.encode("utf-8", "surrogatepass")))


def first_token(model: nn.Module, tokenizer: Any) -> int | None:
    """The id before a text: the model's `start_id`, or the end-of-text token; None without both."""
    start = introspection.start_id(model)
    return end_of_text(tokenizer) if start is None else start


def in_float64(x: Tensor) -> Tensor:
    """`x` in float64: on its device, or on the CPU if it has none (Apple's MPS). Any shape."""
    try:
        return x.double()
    except (TypeError, RuntimeError):
        # TypeError from MPS, RuntimeError from other devices without float64
        return x.cpu().double()


def _batches(
    ids: Sequence[int] | Tensor | np.ndarray, size: int, stride: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows over the ids in order: (inputs [B, T], targets [B, T]).

    Every target is scored in one window, and is `IGNORE` in the others.
    """
    last = max(len(ids) - 1 - size, 0)  # start of a window that reaches the end
    starts = range(0, last + stride, stride)
    for first in range(0, len(starts), batch_size):
        rows = starts[first : first + batch_size]
        inputs = torch.zeros(len(rows), size, dtype=torch.long)  # [B, T]
        targets = torch.full_like(inputs, IGNORE)  # [B, T]
        for row, start in enumerate(rows):
            window = torch.tensor(np.asarray(ids[start : start + size + 1], dtype=np.int64))
            n_scored_before = size - stride if start else 0
            inputs[row, : len(window) - 1] = window[:-1]
            targets[row, n_scored_before : len(window) - 1] = window[n_scored_before + 1 :]
        yield inputs, targets
