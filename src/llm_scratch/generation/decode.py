"""From a prompt to a text: `generate` gives ids, `stream` gives text while it comes, and both are `steps.steps`.

Read `stream`, then `stream_rows`, which it is one row of. Proof: tests/generation/test_decode.py (with the cache the ids are the same as
without). Lesson: lessons/step4_pretraining.py. Every way of choosing a token, in one table: docs/decoding.md.
Source: top-k sampling at a temperature, as GPT-2 (Radford et al. 2019) does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llm_scratch.errors import GenerationWarning
from llm_scratch.generation.cached_model import NO_CHOICE, PAD, check_prompt, pad_left
from llm_scratch.generation.detokenizer import StreamingDetokenizer, TextChunk, text_chunk
from llm_scratch.generation.sampling import Generators
from llm_scratch.generation.steps import Step, build_sampler, steps
from llm_scratch.model.introspection import context_length, device_of
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.ranges import MAX_SEED, check
from llm_scratch.tokenizers.special import end_of_text

EXHAUSTED = "every token is excluded; leave out a penalty or constraint"


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
    generator: Generators = None,
    samples: int = 1,
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
    **settings: Any,
) -> Tensor:
    """Continue each row of ids, by chance or always with the best token.

    Args:
        idx: [B, T], the prompts; `reader.pad_left` makes one batch of prompts of different lengths.
        max_new_tokens: how many to add at most.
        context_size: most tokens the model is shown at once; None, or more than it can see: as many as it can see.
        temperature: 0 takes the best token; see `sampling.temperature`.
        top_k, top_p: see `sampling.top_k` and `sampling.top_p`.
        eos_id: the token that ends a text. A row keeps it and is filled up with it; when all rows have ended, so does this function.
        generator: where the chance comes from; None: PyTorch's own, so that `torch.manual_seed(123)` before the call repeats a text. A
            list gives each row its own, and then a row is drawn as if it were alone.
        samples, on_full, prefill_chunk, cache: as in `steps.steps`. A row that stops since it is full, or has no token left to choose, is
            filled up with `reader.BLANK`.
        settings: any other sampler or penalty, as in `steps.chooser`.
    Returns:
        [B * samples, T + new], new <= max_new_tokens.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of its range.
    """
    _check(model, idx, max_new_tokens, context_size, temperature)
    choose = build_sampler(generator, temperature=temperature, top_k=top_k, top_p=top_p, **settings)
    how: dict[str, Any] = {"samples": samples, "on_full": on_full, "prefill_chunk": prefill_chunk, "cache": cache}
    if on_full == "slide":
        warn_of_cut_prompt(model, idx.shape[1])
    new = steps(model, idx, choose, context_size=context_size, eos_id=eos_id, **how)
    ids = torch.cat([idx.repeat_interleave(samples, 0), *(step.ids for step in islice(new, max_new_tokens))], dim=1)
    if (ended := (ids == NO_CHOICE).any(1).sum()) > 0:
        warnings.warn(f"{int(ended)} of {len(ids)} texts end early: {EXHAUSTED}", GenerationWarning, stacklevel=2)
        ids = ids.masked_fill(ids == NO_CHOICE, PAD)
    return ids


def generate_text_simple(model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int) -> Tensor:
    """Continue each row of ids with the best token each time. [B, T] -> [B, T + max_new_tokens].

    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of its range.
    """
    return generate(model, idx, max_new_tokens, context_size)


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
    **settings: Any,
) -> Generator[str]:
    """Continue a text and give each piece as soon as it is whole; the pieces joined are the continuation, without the prompt.

    A token may hold half of a character: bytes wait until the character is complete. What can be no character becomes U+FFFD.
    To end early, stop reading: closing the stream frees the cache.

    Args:
        prompt: where to begin; "" begins where the model was taught that texts begin.
        seed: the same seed, the same text; None: PyTorch's own generator.
        settings: as in `stream_rows`, which says more of all of them.
    """
    warm = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    return (text_chunk.text for text_chunk in stream_chunks(model, tokenizer, prompt, seed=seed, **warm, **settings) if text_chunk.text)


def stream_chunks(model: nn.Module, tokenizer: Any, prompt: str, *, seed: int | None = None, **settings: Any) -> Generator[TextChunk]:
    """As `stream`, but a `Piece` for each token: text, id, and with `top` its probability and the likeliest others.

    Args:
        seed: the same seed, the same text; None: PyTorch's own generator.
        settings: as in `stream_rows`.
    """
    return (text_chunk for _, text_chunk in stream_batch(model, tokenizer, [prompt], seeds=None if seed is None else [seed], **settings))


def stream_batch(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    seeds: Sequence[int] | None = None,
    max_new_tokens: int = 64,
    stop: Sequence[str] = (),
    stop_at_eot: bool = True,
    top: int | None = None,
    temperature: float | None = None,
    on_full: Literal["slide", "stop"] = "slide",
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
    write: Callable[[nn.Module, Tensor], Iterator[Step]] | None = None,
    **settings: Any,
) -> Generator[tuple[int, TextChunk]]:
    """Continue several prompts at once, each several times, and give (row, piece) as they come; a prompt is read once for all its samples.

    Args:
        tokenizer: any with tiktoken's `encode`, `decode_bytes`, `n_vocab`, `eot_token`. Special tokens in a prompt are read as plain text.
        prompts: where to begin; "" begins where the model was taught that texts begin, after the end-of-text token. A model with a
            `start_id` has only seen rows that begin with that token, so it stands before every prompt.
        samples: continuations of each; row 0 to samples - 1 belong to the first prompt.
        seeds: one for each row: a text is then the same alone or in a batch. None: PyTorch's own generator.
        stop: strings that end a text and are not shown.
        stop_at_eot: end when the model says that the text ends; the end-of-text token itself is never given.
        top: give each piece its log-probability and this many likeliest others; None: neither.
        temperature: 0.8 unless given; 0 is greedy.
        on_full, prefill_chunk, cache: as in `steps.steps`; a row that is full ends.
        write: another way of writing, `(model, ids [B, T]) -> steps`, such as `partial(contrastive, k=4)`; it has settings of its own.
        settings: any sampler or penalty, `mirostat` or `constraint`, as in `steps.chooser`.
    Raises:
        UserError: nothing to begin with, an id outside the model's vocabulary, a setting out of its range.
        TypeError: `write` together with settings that it would not see.
    """
    eot = end_of_text(tokenizer)
    rows = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    idx = pad_left(rows, device_of(model))  # [B, T]
    _check(model, idx, max_new_tokens, None, temperature or 0.0, samples)
    check("top", top)
    if on_full == "slide":
        warn_of_cut_prompt(model, max(map(len, rows), default=0))
    writers = [StreamingDetokenizer(tokenizer, row[-1], eot, stop, stop_at_eot) for row in rows for _ in range(samples)]
    if write is None:
        if seeds is not None and len(seeds) != len(writers):
            raise ValueError(f"{len(seeds)} seeds for {len(writers)} rows; expected one for each")
        generators = None if seeds is None else [seeded(seed, idx.device) for seed in seeds]
        warm = 0.8 if temperature is None else temperature
        choose = build_sampler(generators, n_vocab=tokenizer.n_vocab, temperature=warm, **settings)
        new = steps(model, idx, choose, samples=samples, on_full=on_full, prefill_chunk=prefill_chunk, cache=cache)
    elif samples > 1 or on_full != "slide" or settings or (seeds, temperature, prefill_chunk, cache) != (None,) * 4:
        raise TypeError("another way of writing has its own settings; give them to it, as in partial(contrastive, k=4)")
    else:
        new = write(model, idx)
    return _pieces(islice(new, max_new_tokens), writers, tokenizer.n_vocab, top)


def _pieces(
    new: Iterator[Step], writers: Sequence[StreamingDetokenizer], n_vocab: int, top: int | None
) -> Generator[tuple[int, TextChunk]]:
    """The pieces of every row until all have ended."""
    for ids, logits in new if writers else ():
        logprobs = None if top is None else logits[:, :n_vocab].log_softmax(-1)
        for row, (writer, token) in enumerate(zip(writers, ids.flatten().tolist(), strict=True)):
            if token in (PAD, NO_CHOICE) and not writer.done:  # the row is full, or nothing can follow
                if rest := writer.flush():
                    yield row, TextChunk(rest)
                if token == NO_CHOICE:
                    _warn_of_end(row, len(writers), bool((logits[row] < float("inf")).all()))
            elif not writer.done:
                text = writer.push(token)
                yield row, text_chunk(text, token, None if logprobs is None else logprobs[row], top or 0)
        if all(writer.done for writer in writers):
            return
    for row, writer in enumerate(writers):
        if not writer.done and (rest := writer.flush()):
            yield row, TextChunk(rest)


def _warn_of_end(row: int, rows: int, finite: bool) -> None:
    """Report a text that ends early; `finite` says whether the model's logits are."""
    text = "the text" if rows == 1 else f"text {row + 1} of {rows}"
    reason = EXHAUSTED if finite else "the model's logits are not finite; use an earlier checkpoint"
    warnings.warn(f"{text} ends early: {reason}", GenerationWarning, stacklevel=3)


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """A random generator; a seed past the largest one, as of the last of several samples, continues at 0.

    Raises:
        UserError: a seed below 0.
    """
    check("seed", min(seed, MAX_SEED))
    return torch.Generator(device).manual_seed(seed % (MAX_SEED + 1))


def warn_of_cut_prompt(model: nn.Module, length: int) -> None:
    """Report a prompt that is longer than the context, of which the model reads the end only.

    Args:
        length: tokens of the prompt.
    """
    size = context_length(model)
    if size is not None and length > size:
        dropped = f"the first {length - size} are dropped"
        warnings.warn(f"the prompt has {length} tokens and the model sees {size}: {dropped}", GenerationWarning, stacklevel=3)


def encode_prompt(model: nn.Module, tokenizer: Any, prompt: str) -> list[int]:
    """The ids that a text begins with: after the model's `start_id` if it has one; for "" the end-of-text token."""
    start, eot = getattr(model, "start_id", None), end_of_text(tokenizer)
    return [*([] if start is None else [start]), *tokenizer.encode(prompt, disallowed_special=())] or ([] if eot is None else [eot])


def text_to_token_ids(text: str, tokenizer: Any) -> Tensor:
    """A text as a batch of one row, [B, T]; "<|endoftext|>" in it becomes the token of that name."""
    return torch.tensor([tokenizer.encode(text, allowed_special={"<|endoftext|>"}, disallowed_special=())], dtype=torch.long)


def token_ids_to_text(token_ids: Tensor, tokenizer: Any) -> str:
    """The text of a batch of one row, [B, T], or of one row, [T]."""
    if token_ids.dim() == 2 and len(token_ids) != 1:
        raise ValueError(f"token_ids {tuple(token_ids.shape)} holds {len(token_ids)} rows; expected (1, T) or (T,)")
    return tokenizer.decode(token_ids.flatten().tolist())


def _check(
    model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int | None, temperature: float = 0.0, samples: int = 1
) -> None:
    check_prompt(model, idx)
    for name, value in (
        ("max_new_tokens", max_new_tokens),
        ("context_size", context_size),
        ("temperature", temperature),
        ("samples", samples),
    ):
        check(name, value)
