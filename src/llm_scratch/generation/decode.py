"""Generate text from a prompt: `generate` returns token ids, `stream` yields text.

`stream` is one row of `stream_batch`, which decodes by an `engine.Engine`, or by another strategy
(`strategies.STRATEGIES`). `generate` continues a batch of ids, all rows by the same settings, with
`steps.steps`: it needs no text of a token before the next one, so a GPU never waits for the CPU.
Tests: tests/generation/test_decode.py (ids with and without the cache are equal).
Lesson: lessons/step4_pretraining.py. All samplers and decoding strategies: docs/decoding.md.
Source: top-k sampling at a temperature, as GPT-2 (Radford et al. 2019) does.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.errors import GenerationWarning
from llm_scratch.generation.cached_model import NO_CHOICE, PAD, check_prompt, pad_left
from llm_scratch.generation.config import DEFAULT_MAX_TOKENS, ContextOverflow, GenerationConfig
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.generation.engine import Engine
from llm_scratch.generation.row import Row
from llm_scratch.generation.sampling import Generators, wrap_seed
from llm_scratch.generation.steps import build_sampler, steps
from llm_scratch.generation.strategies import (
    SAMPLE,
    TEXT_SETTINGS,
    check_settings,
    decode_by,
    settings_of,
)
from llm_scratch.model.introspection import context_length
from llm_scratch.model.kv_cache import KVCache
from llm_scratch.model.language_model import as_language_model
from llm_scratch.ranges import check
from llm_scratch.tokenizers.special import end_of_text

Ids = Sequence[int]
Chunks = Generator[tuple[int, TextChunk]]
"""(row, chunk) as they are generated"""
EXHAUSTED = "every token is excluded; leave out a penalty or constraint"
EARLY_ENDS = {
    "excluded": EXHAUSTED,
    "not_finite": "the model's logits are not finite; use an earlier checkpoint",
}


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
    context_overflow: ContextOverflow = "slide",
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
    **settings: Any,
) -> Tensor:
    """Generate tokens after each row of token ids, by sampling or greedily.

    Args:
        model: a language model; see `steps.steps`.
        idx: [B, T], the prompts; `cached_model.pad_left` batches prompts of different lengths.
        max_new_tokens: maximum number of tokens to add.
        context_size: maximum number of tokens the model reads at once; None: its context length.
        temperature: 0 is greedy; see `sampling.temperature`.
        top_k, top_p: see `sampling.top_k` and `sampling.top_p`.
        eos_id: the token that ends a text; a row that has ended is padded with it. Generation stops
            when all rows have ended.
        generator: random generator; None: PyTorch's default, set by `torch.manual_seed`. A list has
            one for each row, which is then sampled as if it were alone.
        samples, context_overflow, prefill_chunk, cache: as in `steps.steps`. A row that is full, or
            in which every token is excluded, is padded with `cached_model.PAD`.
        settings: any other sampler or penalty, as in `steps.build_sampler`.
    Returns:
        [B * samples, T + new], new <= max_new_tokens.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of range.
    """
    check_prompt(model, idx)
    check("max_new_tokens", max_new_tokens)
    check("context_size", context_size)
    check("temperature", temperature)
    choose = build_sampler(generator, temperature=temperature, top_k=top_k, top_p=top_p, **settings)
    if context_overflow == "slide":
        warn_of_cut_prompt(model, idx.shape[1])
    new_steps = steps(
        model,
        idx,
        choose,
        context_size=context_size,
        eos_id=eos_id,
        samples=samples,
        context_overflow=context_overflow,
        prefill_chunk=prefill_chunk,
        cache=cache,
    )
    new_ids = [step.ids for step in islice(new_steps, max_new_tokens)]
    ids = torch.cat([idx.repeat_interleave(samples, 0), *new_ids], dim=1)
    return _pad_after_exhaustion(ids)


def _pad_after_exhaustion(ids: Tensor) -> Tensor:
    """Pad the texts in which every token was excluded, and warn of them: [B, S] -> [B, S]."""
    ended = int((ids == NO_CHOICE).any(1).sum())
    if ended:
        early = f"{ended} of {len(ids)} texts end early: {EXHAUSTED}"
        warnings.warn(early, GenerationWarning, stacklevel=3)
    return ids.masked_fill(ids == NO_CHOICE, PAD)


def generate_text_simple(
    model: nn.Module, idx: Tensor, max_new_tokens: int, context_size: int
) -> Tensor:
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
    max_new_tokens: int = DEFAULT_MAX_TOKENS,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    strategy: str = SAMPLE,
    **settings: Any,
) -> Generator[str]:
    """Continue a text and yield it in chunks as it is generated, without the prompt.

    A token may contain half a character; its bytes are held back until the character is complete.
    Invalid UTF-8 becomes U+FFFD. To end early, stop iterating: closing the stream frees the cache.

    Args:
        model, tokenizer: as from `load`.
        prompt: the text to continue; "" starts a new text, after the end-of-text token.
        max_new_tokens: maximum number of tokens to add.
        temperature: 0 is greedy (default: 0.8); see `sampling.temperature`.
        top_k, top_p: see `sampling.top_k` and `sampling.top_p`.
        seed: the same seed gives the same text; None: PyTorch's default generator.
        strategy, settings: as in `stream_batch`.

    Example:
        for chunk in stream(model, tokenizer, "The story of Anna", max_new_tokens=100, seed=1):
            print(chunk, end="", flush=True)
    """
    settings |= {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    chunks = stream_chunks(
        model,
        tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        seed=seed,
        strategy=strategy,
        **settings,
    )
    return (chunk.text for chunk in chunks if chunk.text)


def stream_chunks(
    model: nn.Module, tokenizer: Any, prompt: str, **settings: Any
) -> Generator[TextChunk]:
    """Continue a text and yield a `TextChunk` per token, with log-probabilities if `top` is set.

    Args:
        model, tokenizer, prompt: as in `stream`.
        settings: as in `stream_batch`.
    """
    return (chunk for _, chunk in stream_batch(model, tokenizer, [prompt], **settings))


def stream_batch(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    seed: int | None = None,
    max_new_tokens: int = DEFAULT_MAX_TOKENS,
    strategy: str = SAMPLE,
    prefill_chunk: int | None = None,
    cache: KVCache | None = None,
    **settings: Any,
) -> Chunks:
    """Continue several prompts at once, each several times, and yield (row, chunk) as generated.

    A prompt is read once for all its samples.

    Args:
        tokenizer: with tiktoken's `encode`, `decode_bytes`, `n_vocab` and `eot_token`. Special
            tokens in a prompt are encoded as plain text.
        prompts: texts to continue; "" starts a new text, after the end-of-text token. The
            `start_id` of a model comes before every prompt, as every training row began with it.
        samples: continuations of each prompt; rows 0 to samples - 1 belong to the first prompt.
        seed: of the first row; each next row has the next seed, so that a text is the same alone
            and in a batch. None: PyTorch's default generator.
        strategy: "sample", which generates all rows at once, or a name of `strategies.STRATEGIES`,
            which takes one prompt after the other.
        prefill_chunk: as in `CachedModel`.
        cache: for one prompt, as in `Engine`.
        settings: fields of `GenerationConfig`; with another strategy `stop`, `stop_at_eot`, `top`
            and its own.
    Raises:
        UserError: an empty prompt, an id outside the vocabulary, a setting out of range or one that
            the strategy does not use, or an unknown strategy.
    """
    encoded = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    check_prompt(model, pad_left(encoded))
    for name, value in (("samples", samples), ("max_new_tokens", max_new_tokens)):
        check(name, value)
    if cache is not None and len(prompts) != 1:
        n = len(prompts)
        raise ValueError(f"cache: holds one text, and there are {n} prompts; leave it out")
    settings |= {"max_tokens": max_new_tokens, "prefill_chunk": prefill_chunk, "cache": cache}
    settings = {name: value for name, value in settings.items() if value is not None}
    if_set = {"seed": seed is not None, "samples": samples > 1}
    check_settings(strategy, [*settings, *(name for name, is_set in if_set.items() if is_set)])
    if settings.get("context_overflow") != "stop" and "context_overflow" in settings_of(strategy):
        warn_of_cut_prompt(model, max(map(len, encoded)))
    rows = [ids for ids in encoded for _ in range(samples)]
    seeds = [None if seed is None else wrap_seed(seed + row) for row in range(len(rows))]
    if strategy == SAMPLE:
        chunks = _sampled(model, tokenizer, rows, seeds, settings)
    else:
        chunks = _by_strategy(strategy, model, tokenizer, rows, samples, seeds, settings)
    return _warn_of_early_ends(chunks, len(rows))


def _sampled(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Ids],
    seeds: Sequence[int | None],
    settings: dict[str, Any],
) -> Chunks:
    """Sample all rows at once, in an `Engine`."""
    shared = {name: settings.pop(name, None) for name in ("prefill_chunk", "cache")}
    config = GenerationConfig.of(**settings)
    configs = [replace(config, seed=seed) for seed in seeds]

    def chunks() -> Chunks:
        with Engine(model, tokenizer, **shared) as engine:
            ids = [engine.add(*row) for row in zip(prompts, configs, strict=True)]
            row_of = {id: row for row, id in enumerate(ids)}
            while engine:
                for id, chunk in engine.step().items():
                    yield row_of[id], chunk

    return chunks()


def _by_strategy(
    strategy: str,
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Ids],
    samples: int,
    seeds: Sequence[int | None],
    settings: dict[str, Any],
) -> Chunks:
    """Decode the samples of one prompt after the other by a strategy."""
    text_settings = {name: settings.pop(name) for name in TEXT_SETTINGS & settings.keys()}
    config = GenerationConfig.of(**text_settings)
    rows = [Row(prompt, config, tokenizer) for prompt in prompts]

    def chunks() -> Chunks:
        for first in range(0, len(rows), samples):
            texts, own_seeds = rows[first : first + samples], seeds[first : first + samples]
            for sample, chunk in decode_by(strategy, model, tokenizer, texts, own_seeds, settings):
                yield first + sample, chunk

    return chunks()


def _warn_of_early_ends(chunks: Chunks, n_rows: int) -> Chunks:
    """Pass chunks on, and warn of a text that ended because no token could be chosen."""
    for row, chunk in chunks:
        yield row, chunk
        if chunk.stop_reason in EARLY_ENDS:
            text = "the text" if n_rows == 1 else f"text {row + 1} of {n_rows}"
            warnings.warn(
                f"{text} ends early: {EARLY_ENDS[chunk.stop_reason]}",
                GenerationWarning,
                stacklevel=2,
            )


def warn_of_cut_prompt(model: nn.Module, length: int) -> None:
    """Warn of a prompt that is longer than the context, of which only the end is read.

    Args:
        length: tokens of the prompt.
    """
    size = context_length(model)
    if size is not None and length > size:
        dropped = f"the first {length - size} are dropped"
        warnings.warn(
            f"the prompt has {length} tokens and the model sees {size}: {dropped}",
            GenerationWarning,
            stacklevel=3,
        )


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
        raise ValueError(
            f"token_ids {tuple(token_ids.shape)} holds {len(token_ids)} rows;"
            " expected (1, T) or (T,)"
        )
    return tokenizer.decode(token_ids.flatten().tolist())
