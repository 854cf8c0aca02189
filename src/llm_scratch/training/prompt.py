"""What the samples of a run begin with: the prompt of its settings, or where the tokenizer cannot encode it, a start of its own.

Tests: tests/training/test_prompt.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from llm_scratch.data.shards import Tokens
from llm_scratch.errors import UserError
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.model.introspection import context_length
from llm_scratch.tokenizers.special import end_of_text

START_TOKENS = 8
"""tokens of the training text that a sample begins with, where a model has no start token"""


def prompt_problem(model: nn.Module, tokenizer: Any, prompt: str) -> str:
    """Why a model cannot continue `prompt`, in words; "" if it can.

    Args:
        model: its `start_id`, if it has one, stands before every prompt.
        tokenizer: of the model.
        prompt: the text to continue; "" is the model's own start.
    """
    try:
        ids = encode_prompt(model, tokenizer, prompt)
    except (UserError, ValueError, KeyError) as e:
        return str(e).partition(";")[0]
    return "" if ids else "it has no tokens, and the tokenizer no end-of-text token to begin with"


def _cut_prompt(model: nn.Module, tokenizer: Any, prompt: str) -> str:
    """A warning that a prompt is longer than the context; "" where it fits."""
    length, size = len(encode_prompt(model, tokenizer, prompt)), context_length(model)
    if size is None or length <= size:
        return ""
    dropped = f"the first {length - size} are dropped"
    return f"the prompt of samples has {length} tokens and the model sees {size}: {dropped}; --train.prompt sets another"


def choose_prompt(model: nn.Module, tokenizer: Any, prompt: str, text: Tokens) -> tuple[str, str]:
    """The prompt that samples of a run can begin with, and a warning if it is not the one asked for.

    Args:
        model: the model of the run.
        tokenizer: of the run.
        prompt: the one of the settings.
        text: the token ids to learn from, [N].
    Returns:
        (prompt, warning): "" as a prompt is the model's start token; "" as a warning means that the prompt is `prompt`, and fits.
    """
    if not (problem := prompt_problem(model, tokenizer, prompt)):
        return prompt, _cut_prompt(model, tokenizer, prompt)
    first = np.asarray(text[:START_TOKENS])
    starts_documents = getattr(model, "start_id", None) is not None or first[:1].tolist() == [end_of_text(tokenizer)]
    own = "" if starts_documents else tokenizer.decode(first.tolist())
    where = repr(own) if own else "the model's start token"
    return own, f"samples cannot begin with {prompt!r}: {problem}; they begin with {where}, and --train.prompt sets another"
