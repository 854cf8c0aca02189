"""From a prompt to a text: ask the model for the next token, put it at the end, ask again.

Read `next_ids`, the one loop; `generate` gathers what it gives into ids, `stream` turns it into text while it comes.
Proof: tests/generation/test_decode.py (with the cache the ids are the same as without). Lesson: lessons/step4_pretraining.py.
Source: top-k sampling at a temperature, as GPT-2 (Radford et al. 2019) does.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.generation.sampling import greedy, next_token
from llm_scratch.model.running import check_ids, context_length, device_of, evaluating


@torch.no_grad()
def next_ids(
    model: nn.Module, idx: Tensor, choose: Callable[[Tensor], Tensor], context_size: int | None = None, eos_id: int | None = None
) -> Iterator[Tensor]:
    """Continue each row of `idx` one token at a time, without end, or until every row has said `eos_id`.

    While the text fits into the context, the model reads only what is new and its cache remembers the rest. After that the oldest token
    leaves at each step, every position shifts by one, and the model reads the whole window again.

    Args:
        model: `(ids [B, T]) -> logits [B, T, V]`; in eval mode while this runs, as it was afterwards. With `new_cache`, it is used.
        idx: [B, T], the prompts, all of one length.
        choose: `(logits [B, V]) -> ids [B, 1]`.
        context_size: most tokens the model is shown; never more than it can see, which is also what None means.
    Yields:
        [B, 1]; `eos_id` again and again in a row that has ended.
    """
    limits = [size for size in (context_size, context_length(model)) if size is not None]
    size = min(limits, default=None)
    ended = torch.zeros(len(idx), 1, dtype=torch.bool, device=idx.device)  # [B, 1]
    with evaluating(model):
        cached = size is not None and idx.shape[1] < size and hasattr(model, "new_cache")
        cache = model.new_cache(len(idx)) if cached else None  # type: ignore[operator]
        while True:
            if cache is not None and size is not None and idx.shape[1] <= size:
                logits = model(idx[:, cache.pos :], cache)[:, -1]  # [B, V]
            else:
                logits = model(idx if size is None else idx[:, -size:])[:, -1]  # [B, V]
            new = choose(logits.float())  # [B, 1]
            if eos_id is not None:
                new = new.masked_fill(ended, eos_id)  # [B, 1]
                ended = ended | (new == eos_id)  # [B, 1]
            yield new
            if eos_id is not None and ended.all():
                return
            idx = torch.cat([idx, new], dim=1)  # [B, S]


def generate(
    model: nn.Module,
    idx: Tensor,
    max_new_tokens: int,
    context_size: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    *,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue each row of ids, by chance or always with the best token.

    Args:
        idx: [B, T], the prompts, all of one length.
        max_new_tokens: how many to add at most.
        context_size: most tokens the model is shown at once; None, or more than it can see: as many as it can see.
        temperature: 0 takes the best token; see `sampling.temperature`.
        top_k, top_p: see `sampling.top_k` and `sampling.top_p`.
        eos_id: the token that ends a text. A row keeps it and is filled up with it; when all rows have ended, so does this function.
        generator: where the chance comes from; None: PyTorch's own, so that `torch.manual_seed(123)` before the call repeats a text.
    Returns:
        [B, T + new], new <= max_new_tokens.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of its range.
    """
    _check(model, idx, max_new_tokens, context_size, temperature)
    choose = partial(next_token, generator=generator, temperature=temperature, top_k=top_k, top_p=top_p)
    return torch.cat([idx, *islice(next_ids(model, idx, choose, context_size, eos_id), max_new_tokens)], dim=1)


def generate_text_simple(model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int) -> Tensor:
    """Continue each row of ids with the best token each time. [B, T] -> [B, T + max_new_tokens].

    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of its range.
    """
    _check(model, idx, max_new_tokens, context_size)
    return torch.cat([idx, *islice(next_ids(model, idx, greedy, context_size), max_new_tokens)], dim=1)


def stream(
    model: nn.Module,
    tokenizer: Any,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop_at_eot: bool = True,
) -> Iterator[str]:
    """Continue a text and give each piece as soon as it is whole; the pieces joined are the continuation, without the prompt.

    A token may hold half of a character: bytes wait until the character is complete. What can be no character becomes U+FFFD.

    Args:
        tokenizer: any with tiktoken's `encode`, `decode_bytes`, `n_vocab`, `eot_token`. Special tokens in `prompt` are read as plain text.
        prompt: where to begin; "" begins where the model was taught that texts begin, after the end-of-text token. A model with a
            `start_id` has only seen rows that begin with that token, so it stands before every prompt.
        seed: the same seed, the same text; None: PyTorch's own generator.
        stop_at_eot: end when the model says that the text ends; the end-of-text token itself is never given.
    Raises:
        UserError: nothing to begin with, an id outside the model's vocabulary, a setting out of its range.
    """
    eot = end_of_text(tokenizer)
    start = getattr(model, "start_id", None)
    ids = [*([] if start is None else [start]), *tokenizer.encode(prompt, disallowed_special=())] or ([] if eot is None else [eot])
    idx = torch.tensor([ids], dtype=torch.long, device=device_of(model))  # [B, T]
    _check(model, idx, max_new_tokens, None, temperature)
    generator = None if seed is None else torch.Generator(idx.device).manual_seed(seed)

    def choose(logits: Tensor) -> Tensor:  # a vocabulary rounded up to a fast size has scores without tokens
        return next_token(logits[:, : tokenizer.n_vocab], generator, temperature=temperature, top_k=top_k, top_p=top_p)

    new = islice(next_ids(model, idx, choose, eos_id=eot if stop_at_eot else None), max_new_tokens)
    return _text(tokenizer, ids[-1], (int(token) for token in new), eot)


def _text(tokenizer: Any, last: int, ids: Iterator[int], eot: int | None) -> Iterator[str]:
    """The text of each id after the id `last`, in whole characters; nothing for `eot`."""
    whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in ids:
        if token != eot:  # word tokenizers put a space between two words, so an id is read with the one before it
            piece = whole.decode(tokenizer.decode_bytes([last, token])[len(tokenizer.decode_bytes([last])) :])
            if piece:
                yield piece
        last = token
    if rest := whole.decode(b"", final=True):
        yield rest


def end_of_text(tokenizer: Any) -> int | None:
    """The id of the end-of-text token; None for a vocabulary without one."""
    try:
        return tokenizer.eot_token
    except (AttributeError, KeyError, UserError):
        return None


def text_to_token_ids(text: str, tokenizer: Any) -> Tensor:
    """A text as a batch of one row, [B, T]; "<|endoftext|>" in it becomes the token of that name."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"}, disallowed_special=())], dtype=torch.long)


def token_ids_to_text(token_ids: Tensor, tokenizer: Any) -> str:
    """The text of a batch of one row, [B, T], or of one row, [T]."""
    if token_ids.dim() == 2 and len(token_ids) != 1:
        raise ValueError(f"token_ids {tuple(token_ids.shape)} holds {len(token_ids)} rows; expected (1, T) or (T,)")
    return tokenizer.decode(token_ids.flatten().tolist())


def _check(model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int | None, temperature: float = 0.0) -> None:
    if idx.dim() != 2:
        raise ValueError(f"idx is {tuple(idx.shape)}; expected (B, T)")
    if not idx.numel():
        raise UserError("the prompt holds no token; give it at least one word", DATA)
    for name, value, least in (("max_new_tokens", max_new_tokens, 0), ("context_size", context_size, 1), ("temperature", temperature, 0)):
        if value is not None and not value >= least:
            raise UserError(f"{name}={value} must be at least {least}")
    check_ids(model, idx)
