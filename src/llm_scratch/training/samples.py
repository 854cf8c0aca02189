"""Samples of a run: text that the model generates as it learns, and the prompt that it continues.

Tests: tests/training/test_samples.py.
"""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from llm_scratch.data.shards import Tokens
from llm_scratch.errors import GenerationWarning, UserError
from llm_scratch.generation.decode import encode_prompt, stream
from llm_scratch.model.introspection import context_length
from llm_scratch.model.language_model import as_language_model
from llm_scratch.tokenizers.special import end_of_text

START_TOKENS = 8
"""tokens of the training text as a prompt, for a model without a start token"""
SAMPLE_TOKENS = 180
SAMPLE_TEMPERATURE = 0.8


def generate_sample(model: nn.Module, tokenizer: Any, prompt: str, seed: int) -> str:
    """A prompt with the model's continuation.

    The random generator is its own, so training does not change.
    """
    # The compiled trunk is for whole rows; with a cache it would be recompiled for each length.
    is_compiled = "hidden" in vars(model)
    # reported by `choose_prompt`
    with warnings.catch_warnings(action="ignore", category=GenerationWarning):
        chunks = stream(
            model,
            tokenizer,
            prompt,
            max_new_tokens=SAMPLE_TOKENS,
            temperature=SAMPLE_TEMPERATURE,
            seed=seed,
        )
    with torch.compiler.set_stance("force_eager") if is_compiled else nullcontext():
        return prompt + "".join(chunks)


def prompt_problem(model: nn.Module, tokenizer: Any, prompt: str) -> str:
    """Why a model cannot continue `prompt`; "" if it can.

    Args:
        model: its `start_id`, if it has one, precedes every prompt.
        tokenizer: of the model.
        prompt: the text to continue; "" means the model's start token.
    """
    try:
        ids = encode_prompt(model, tokenizer, prompt)
    except (UserError, ValueError, KeyError) as e:
        return str(e).partition(";")[0]
    return "" if ids else "it has no tokens, and the tokenizer no end-of-text token to begin with"


def _length_warning(model: nn.Module, tokenizer: Any, prompt: str) -> str:
    """A warning if a prompt is longer than the context; "" if it fits."""
    length = len(encode_prompt(model, tokenizer, prompt))
    size = context_length(model)
    if size is None or length <= size:
        return ""
    return (
        f"the prompt of samples has {length} tokens, but the context is {size}:"
        f" the first {length - size} are dropped; set another with --train.prompt"
    )


def choose_prompt(model: nn.Module, tokenizer: Any, prompt: str, text: Tokens) -> tuple[str, str]:
    """The prompt for the samples of a run, and a warning if it is not the configured one.

    Args:
        model: the model of the run.
        tokenizer: of the run.
        prompt: the configured one.
        text: the training tokens, [N].
    Returns:
        (prompt, warning): a prompt "" is the model's start token; a warning "" means that the
        prompt is `prompt` and fits the context.
    """
    if not (problem := prompt_problem(model, tokenizer, prompt)):
        return prompt, _length_warning(model, tokenizer, prompt)
    first = np.asarray(text[:START_TOKENS])
    starts_documents = as_language_model(model).start_id is not None or first[:1].tolist() == [
        end_of_text(tokenizer)
    ]
    fallback = "" if starts_documents else tokenizer.decode(first.tolist())
    start = repr(fallback) if fallback else "the model's start token"
    return (
        fallback,
        (
            f"samples cannot begin with {prompt!r}: {problem};"
            f" using {start}, set another with --train.prompt"
        ),
    )
