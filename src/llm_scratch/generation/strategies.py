"""Decoding strategies by name, for `stream(..., strategy="beam")`: beam search and others.

Without a name, each token is sampled (`engine.Engine`). A strategy is a function
`(model, ids [1, T], **settings)` that yields a `Step` for each new token. Its keywords are its
settings, except those in `PROVIDED`. To add one, write such a function and set
`STRATEGIES["mine"] = mine`.
Tests: tests/generation/test_strategies.py. What each does: docs/decoding.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, signature
from itertools import islice
from typing import Any

import torch
from torch import nn

from llm_scratch.errors import UserError, unknown
from llm_scratch.generation.beam import beam
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.contrastive import contrastive
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.generation.row import Row
from llm_scratch.generation.sampling import SAMPLERS
from llm_scratch.generation.speculative import lookup, speculative
from llm_scratch.generation.steps import Step
from llm_scratch.model.introspection import device_of
from llm_scratch.tokenizers.special import end_of_text

Strategy = Callable[..., Iterator[Step]]
STRATEGIES: dict[str, Strategy] = {
    "beam": beam,
    "contrastive": contrastive,
    "speculative": speculative,
    "lookup": lookup,
}
"""Name of a decoding strategy -> function of (model, ids [1, T], settings) that yields steps."""
SAMPLE = "sample"
"""The default: each token is sampled, by the settings of `GenerationConfig`."""
PROVIDED = {"n_vocab", "eos_id", "max_new_tokens"}
"""Keywords of a strategy that are not settings: they are passed to it if it names them."""
TEXT_SETTINGS = {"max_tokens", "stop", "stop_at_eot", "top"}
"""Settings of every strategy: they act on the text that it generates."""


def settings_of(strategy: str) -> set[str]:
    """Names of the settings of a strategy, beyond `TEXT_SETTINGS`.

    Raises:
        UserError: an unknown strategy; names the nearest.
    """
    if strategy == SAMPLE:
        own = {f.name for f in fields(GenerationConfig)} - TEXT_SETTINGS - {"extra_samplers"}
        return own | SAMPLERS.keys() | PENALTIES.keys() | {"samples", "prefill_chunk", "cache"}
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, [SAMPLE, *STRATEGIES])
    parameters = signature(STRATEGIES[strategy]).parameters.values()
    own = {p.name for p in parameters if p.kind == Parameter.KEYWORD_ONLY} - PROVIDED
    if any(p.kind == Parameter.VAR_KEYWORD for p in parameters):
        own |= SAMPLERS.keys() | PENALTIES.keys()
    return own | ({"samples"} if "seed" in own else set())


def strategies_with(setting: str) -> list[str]:
    """Names of the strategies that a setting applies to."""
    return [name for name in (SAMPLE, *STRATEGIES) if setting in settings_of(name)]


def check_settings(strategy: str, names: Collection[str]) -> None:
    """Check that a strategy uses every setting, and lacks none.

    Raises:
        UserError: names the first one that it would ignore, and the strategies that use it; or the
            first that it needs.
    """
    own = settings_of(strategy)
    if missing := [name for name in own if name not in names and _is_required(strategy, name)]:
        raise UserError(f"strategy={strategy!r} needs {missing[0]}; pass it, or another strategy")
    for name in names:
        if name in own or name in TEXT_SETTINGS:
            continue
        users = ", ".join(strategies_with(name))
        if not users:
            raise unknown("setting", name, own | TEXT_SETTINGS)
        raise UserError(f"{name} has no effect with strategy={strategy!r}; it applies to {users}")


def _is_required(strategy: str, setting: str) -> bool:
    if strategy == SAMPLE:
        return False
    keyword = signature(STRATEGIES[strategy]).parameters.get(setting)
    return keyword is not None and keyword.default is Parameter.empty


def decode_by(
    strategy: str,
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Row],
    seeds: Sequence[int | None],
    settings: Mapping[str, Any],
) -> Iterator[tuple[int, TextChunk]]:
    """Continue the samples of one prompt by a strategy: (index of the row, chunk).

    A strategy with the keyword `samples` yields steps of all of them; others run once for each.

    Args:
        rows: new texts with the same prompt.
        seeds: of each row, if the strategy is random.
        settings: keywords of the strategy.
    """
    function = STRATEGIES[strategy]
    names = signature(function).parameters
    max_tokens = rows[0].config.max_tokens
    context = {
        "n_vocab": tokenizer.n_vocab,
        "eos_id": end_of_text(tokenizer),
        "max_new_tokens": max_tokens,
    }
    keywords = {**settings, **{name: value for name, value in context.items() if name in names}}
    idx = torch.tensor([rows[0].prompt], device=device_of(model))  # [B, T]
    calls: list[tuple[range, dict[str, Any]]] = [(range(len(rows)), {"samples": len(rows)})]
    if "samples" not in names:
        one_by_one = [{} if seed is None else {"seed": seed} for seed in seeds]
        calls = [(range(i, i + 1), own) for i, own in enumerate(one_by_one)]
    for members, own in calls:
        for step in islice(function(model, idx, **keywords, **own), max_tokens):
            ids = step.ids.flatten().tolist()
            all_logits = step.logits[:, : tokenizer.n_vocab]
            for i, token, logits in zip(members, ids, all_logits, strict=True):
                if rows[i].stop_reason is None:
                    yield i, rows[i].push(token, logits)
            if all(rows[i].stop_reason is not None for i in members):
                break
        for i in members:
            if rows[i].stop_reason is None:
                yield i, rows[i].end(rows[i].reached_limit() or "context")
