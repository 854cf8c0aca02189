"""Describe the chosen settings and the reasons, one line per subject.

Tests: tests/planning/test_describe.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_scratch.config import RunConfig
from llm_scratch.formatting import counted, format_bytes, format_count
from llm_scratch.planning.plan import Plan
from llm_scratch.planning.text_facts import TextFacts

MIN_LEFT_OUT = 0.01  # share of the training tokens below which unused ones are not mentioned

_WHERE = {
    "shuffled": "others each time",
    "documents": "the ends of long documents",
    "notebook": "those after the last full batch",
    "sequential": "those after the last full row",
}
"""The training tokens that an epoch leaves out, by the order of rows."""


def describe(
    config: RunConfig,
    facts: TextFacts,
    plan: Plan,
    reasons: Mapping[str, str],
    n_train: int,
    n_val: int,
    left_out: int = 0,
) -> dict[str, str]:
    """Sentences on text, tokenizer, rows, model and training.

    A sixth, if an epoch leaves tokens out.

    Args:
        config: the chosen settings.
        facts: of the text.
        plan: of the run.
        reasons: subject -> reason, from the rules.
        n_train, n_val: tokens for training and for validation.
        left_out: training tokens that are not a target in an epoch (`TokenLoader.left_out`).
    """
    model, train = config.model, config.train
    val_share = float(f"{n_val / (n_train + n_val):.2g}")
    skipped = f"{left_out:,} of {n_train:,} training tokens an epoch, {_WHERE[config.data.order]}"
    return {
        "text": (
            f"{counted(facts.n_documents, 'document')}, {format_bytes(facts.n_bytes)};"
            f" {val_share:.0%} for validation, {reasons['split']}"
        ),
        "tokenizer": _tokenizer(config, facts, n_train + n_val, reasons["tokenizer"]),
        "rows": f"{model.context_length} tokens, {train.batch_size} in a step; {reasons['rows']}",
        "model": (
            f"{counted(model.n_layers, 'layer')} of {model.emb_dim},"
            f" {format_count(model.n_params)} parameters"
            f"{f', dropout {model.drop_rate:g}' * bool(model.drop_rate)}; {reasons['model']}"
        ),
        "training": f"{plan.steps:,} steps, {_epochs(plan.epochs or 0.0)}; {reasons['training']}",
        **({"left out": skipped} if left_out > MIN_LEFT_OUT * n_train else {}),
    }


def _tokenizer(config: RunConfig, facts: TextFacts, n_tokens: int, reason: str) -> str:
    """The tokenizer's kind, vocabulary and characters per token.

    The text it was trained on is named if that is not all of it.
    """
    kind = config.data.tokenizer
    size = config.model.vocab_size
    sample = config.data.tokenizer_sample
    if kind == "chars":
        return f"{size:,} characters; {reason}"
    summary = f"{kind}, {size:,} tokens of {facts.n_characters / n_tokens:.1f} characters"
    if sample:
        return f"{summary}, learned from {sample / facts.n_characters:.0%} of the text"
    return f"{summary}; {reason}"


def _epochs(epochs: float) -> str:
    return f"{epochs:.1f} times over the text" if epochs >= 0.95 else f"{epochs:.0%} of the text"
