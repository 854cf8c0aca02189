"""What was chosen for a text, and why, in a few lines.

Tests: tests/planning/test_describe.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_scratch.config import RunConfig
from llm_scratch.planning.plan import Plan
from llm_scratch.planning.text_facts import TextFacts

MIN_LEFT_OUT = 0.01  # of the training tokens: fewer are not worth a line

_WHERE = {
    "shuffled": "others each time",
    "documents": "the ends of long documents",
    "epochs": "those after the last full batch",
    "in order": "those after the last full row",
}
"""Which training tokens an epoch leaves out, by the order of rows."""


def describe(
    config: RunConfig, facts: TextFacts, plan: Plan, reasons: Mapping[str, str], n_train: int, n_val: int, left_out: int = 0
) -> dict[str, str]:
    """Five subjects (text, tokenizer, rows, model, training), each with a sentence; a sixth where an epoch leaves out
    more than `MIN_LEFT_OUT` of the training tokens.

    Args:
        config: what was chosen.
        facts: of the text.
        plan: of the run.
        reasons: subject -> why, from the rules.
        n_train, n_val: tokens for training and for validation.
        left_out: training tokens that are not a target in an epoch (`TokenLoader.left_out`).
    """
    model, train = config.model, config.train
    held_out = f"{n_val / (n_train + n_val):.2g}"
    skipped = f"{left_out:,} of {n_train:,} training tokens an epoch, {_WHERE[config.data.order]}"
    return {
        "text": f"{_documents(facts.n_documents)}, {_size(facts.n_bytes)}; {float(held_out):.0%} for validation, {reasons['split']}",
        "tokenizer": _tokenizer(config, facts, n_train + n_val, reasons["tokenizer"]),
        "rows": f"{model.context_length} tokens, {train.batch_size} in a step; {reasons['rows']}",
        "model": f"{model.n_layers} layers of {model.emb_dim}, {_count(model.n_params)} parameters"
        f"{f', dropout {model.drop_rate:g}' * bool(model.drop_rate)}; {reasons['model']}",
        "training": f"{plan.steps:,} steps, {_epochs(plan.passes or 0.0)}; {reasons['training']}",
        **({"left out": skipped} if left_out > MIN_LEFT_OUT * n_train else {}),
    }


def _documents(count: int) -> str:
    return f"{count:,} document{'s' * (count != 1)}"


def _tokenizer(config: RunConfig, facts: TextFacts, n_tokens: int, reason: str) -> str:
    """Its kind and vocabulary, how long a token is, and from how much it was learned if that is not all of the text."""
    kind, size, sample = config.data.tokenizer, config.model.vocab_size, config.data.tokenizer_sample
    if kind == "chars":
        return f"{size:,} characters; {reason}"
    said = f"{kind}, {size:,} tokens of {facts.n_characters / n_tokens:.1f} characters"
    return f"{said}, learned from {sample / facts.n_characters:.0%} of the text" if sample else f"{said}; {reason}"


def _epochs(passes: float) -> str:
    return f"{passes:.1f} times over the text" if passes >= 0.95 else f"{passes:.0%} of the text"


def _count(number: float) -> str:
    """A number of parameters: 111k, 4.92 M."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.0f}k"


def _size(n_bytes: float) -> str:
    """Bytes as files are counted: 20 kB, 1.1 MB."""
    scale, unit = next((s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes")) if n_bytes >= s or s == 1)
    return f"{n_bytes / scale:.3g} {unit}"
