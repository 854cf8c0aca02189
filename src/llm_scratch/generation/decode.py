"""Generate text from a prompt: `generate` returns token ids, `stream` yields text.

Both use `steps.steps`; `stream` is one row of `stream_batch`.
Tests: tests/generation/test_decode.py (ids with and without the cache are equal).
Lesson: lessons/step4_pretraining.py. All samplers and decoding strategies: docs/decoding.md.
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
from llm_scratch.model.language_model import as_language_model
from llm_scratch.ranges import MAX_SEED, check
from llm_scratch.tokenizers.special import end_of_text

DEFAULT_TEMPERATURE = 0.8
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
    """Continue each row of token ids, by sampling or greedily.

    Args:
        model: a language model; see `steps.steps`.
        idx: [B, T], the prompts; `cached_model.pad_left` batches prompts of different lengths.
        max_new_tokens: maximum number of tokens to add.
        context_size: maximum number of tokens the model reads at once; None: its context length.
        temperature: 0 is greedy; see `sampling.temperature`.
        top_k, top_p: see `sampling.top_k` and `sampling.top_p`.
        eos_id: the token that ends a text; a row that has ended is padded with it. Generation stops when all rows have ended.
        generator: random generator; None: PyTorch's default, set by `torch.manual_seed`. A list has one for each row, which is then
            sampled as if it were alone.
        samples, on_full, prefill_chunk, cache: as in `steps.steps`. A row that is full, or in which every token is excluded, is padded
            with `cached_model.PAD`.
        settings: any other sampler or penalty, as in `steps.build_sampler`.
    Returns:
        [B * samples, T + new], new <= max_new_tokens.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of range.
    """
    _check(model, idx, max_new_tokens, context_size, temperature)
    choose = build_sampler(generator, temperature=temperature, top_k=top_k, top_p=top_p, **settings)
    if on_full == "slide":
        warn_of_cut_prompt(model, idx.shape[1])
    new_steps = steps(
        model,
        idx,
        choose,
        context_size=context_size,
        eos_id=eos_id,
        samples=samples,
        on_full=on_full,
        prefill_chunk=prefill_chunk,
        cache=cache,
    )
    new_ids = [step.ids for step in islice(new_steps, max_new_tokens)]
    ids = torch.cat([idx.repeat_interleave(samples, 0), *new_ids], dim=1)
    if (ended := (ids == NO_CHOICE).any(1).sum()) > 0:
        warnings.warn(f"{int(ended)} of {len(ids)} texts end early: {EXHAUSTED}", GenerationWarning, stacklevel=2)
        ids = ids.masked_fill(ids == NO_CHOICE, PAD)
    return ids


def generate_text_simple(model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int) -> Tensor:
    """Continue each row of token ids greedily. [B, T] -> [B, T + max_new_tokens].

    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of range.
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
    """Continue a text and yield it in chunks as it is generated, without the prompt.

    A token may contain half a character; its bytes are held back until the character is complete. Invalid UTF-8 becomes U+FFFD. To end
    early, stop iterating: closing the stream frees the cache.

    Args:
        model, tokenizer: as from `load`.
        prompt: the text to continue; "" starts a new text, after the end-of-text token.
        max_new_tokens, temperature, top_k, top_p: as in `generate`.
        seed: the same seed gives the same text; None: PyTorch's default generator.
        settings: as in `stream_batch`.
    """
    chunks = stream_chunks(
        model, tokenizer, prompt, seed=seed, max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, **settings
    )
    return (chunk.text for chunk in chunks if chunk.text)


def stream_chunks(model: nn.Module, tokenizer: Any, prompt: str, *, seed: int | None = None, **settings: Any) -> Generator[TextChunk]:
    """Continue a text and yield a `TextChunk` per token, with log-probabilities if `top` is set.

    Args:
        model, tokenizer, prompt, seed: as in `stream`.
        settings: as in `stream_batch`.
    """
    seeds = None if seed is None else [seed]
    return (chunk for _, chunk in stream_batch(model, tokenizer, [prompt], seeds=seeds, **settings))


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
    """Continue several prompts at once, each several times, and yield (row, chunk) as generated.

    A prompt is read once for all its samples.

    Args:
        tokenizer: with tiktoken's `encode`, `decode_bytes`, `n_vocab` and `eot_token`. Special tokens in a prompt are encoded as plain
            text.
        prompts: texts to continue; "" starts a new text, after the end-of-text token. The `start_id` of a model comes before every
            prompt, as every training row began with it.
        samples: continuations of each prompt; rows 0 to samples - 1 belong to the first prompt.
        seeds: one for each row, so that a text is the same alone and in a batch; None: PyTorch's default generator.
        stop: strings that end a text; they are not part of it.
        stop_at_eot: end a text at the end-of-text token, which is never part of it.
        top: add log-probabilities to each chunk, of its token and of this many most likely ones; None: none.
        temperature: 0 is greedy (default: 0.8).
        on_full, prefill_chunk, cache: as in `steps.steps`; a row that is full ends.
        write: another decoding strategy, `(model, ids [B, T]) -> steps`, such as `partial(contrastive, k=4)`; it has its own settings.
        settings: any sampler or penalty, `mirostat` or `constraint`, as in `steps.build_sampler`.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of range.
        TypeError: `write` together with settings that it would not see.
    """
    eot = end_of_text(tokenizer)
    rows = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    idx = pad_left(rows, device_of(model))  # [B, T]
    _check(model, idx, max_new_tokens, None, temperature or 0.0, samples)
    check("top", top)
    if on_full == "slide":
        warn_of_cut_prompt(model, max(map(len, rows), default=0))
    detokenizers = [StreamingDetokenizer(tokenizer, row[-1], eot, stop, stop_at_eot) for row in rows for _ in range(samples)]
    if write is None:
        if seeds is not None and len(seeds) != len(detokenizers):
            raise ValueError(f"seeds: got {len(seeds)} for {len(detokenizers)} rows; pass one for each")
        generators = None if seeds is None else [seeded(seed, idx.device) for seed in seeds]
        settings["temperature"] = DEFAULT_TEMPERATURE if temperature is None else temperature
        choose = build_sampler(generators, n_vocab=tokenizer.n_vocab, **settings)
        new_steps = steps(model, idx, choose, samples=samples, on_full=on_full, prefill_chunk=prefill_chunk, cache=cache)
    elif samples > 1 or on_full != "slide" or settings or (seeds, temperature, prefill_chunk, cache) != (None,) * 4:
        raise TypeError("write: a decoding strategy has its own settings; pass them to it, as in partial(contrastive, k=4)")
    else:
        new_steps = write(model, idx)
    return _text_chunks(islice(new_steps, max_new_tokens), detokenizers, tokenizer.n_vocab, top)


def _text_chunks(
    new_steps: Iterator[Step], detokenizers: Sequence[StreamingDetokenizer], n_vocab: int, top: int | None
) -> Generator[tuple[int, TextChunk]]:
    """Yield (row, chunk) until all rows have ended."""
    for ids, logits in new_steps if detokenizers else ():
        logprobs = None if top is None else logits[:, :n_vocab].log_softmax(-1)
        for row, (detokenizer, token) in enumerate(zip(detokenizers, ids.flatten().tolist(), strict=True)):
            if token in (PAD, NO_CHOICE) and not detokenizer.done:  # full, or every token excluded
                if rest := detokenizer.flush():
                    yield row, TextChunk(rest)
                if token == NO_CHOICE:
                    _warn_of_end(row, len(detokenizers), bool((logits[row] < float("inf")).all()))
            elif not detokenizer.done:
                text = detokenizer.push(token)
                row_logprobs = None if logprobs is None else logprobs[row]
                yield row, text_chunk(text, token, row_logprobs, top or 0)
        if all(detokenizer.done for detokenizer in detokenizers):
            return
    for row, detokenizer in enumerate(detokenizers):
        if not detokenizer.done and (rest := detokenizer.flush()):
            yield row, TextChunk(rest)


def _warn_of_end(row: int, rows: int, finite: bool) -> None:
    """Warn of a text that ends early; `finite`: whether the model's logits are finite."""
    text = "the text" if rows == 1 else f"text {row + 1} of {rows}"
    reason = EXHAUSTED if finite else "the model's logits are not finite; use an earlier checkpoint"
    warnings.warn(f"{text} ends early: {reason}", GenerationWarning, stacklevel=3)


def seeded(seed: int, device: torch.device) -> torch.Generator:
    """Create a random generator; seeds above the maximum, as for later samples, wrap around to 0.

    Raises:
        UserError: a seed below 0.
    """
    check("seed", min(seed, MAX_SEED))
    return torch.Generator(device).manual_seed(seed % (MAX_SEED + 1))


def warn_of_cut_prompt(model: nn.Module, length: int) -> None:
    """Warn of a prompt that is longer than the context, of which only the end is read.

    Args:
        length: tokens of the prompt.
    """
    size = context_length(model)
    if size is not None and length > size:
        dropped = f"the first {length - size} are dropped"
        warnings.warn(f"the prompt has {length} tokens and the model sees {size}: {dropped}", GenerationWarning, stacklevel=3)


def encode_prompt(model: nn.Module, tokenizer: Any, prompt: str) -> list[int]:
    """Encode a prompt, after the model's `start_id` if any; "" as the end-of-text token."""
    start = as_language_model(model).start_id
    ids = [] if start is None else [start]
    ids += tokenizer.encode(prompt, disallowed_special=())
    eot = end_of_text(tokenizer)
    return ids or ([] if eot is None else [eot])


def text_to_token_ids(text: str, tokenizer: Any) -> Tensor:
    """Encode a text as a batch of one row, [B, T]; "<|endoftext|>" becomes the special token."""
    ids = tokenizer.encode(text, allowed_special={"<|endoftext|>"}, disallowed_special=())
    return torch.tensor([ids], dtype=torch.long)


def token_ids_to_text(token_ids: Tensor, tokenizer: Any) -> str:
    """Decode a batch of one row, [B, T], or one row, [T]."""
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
