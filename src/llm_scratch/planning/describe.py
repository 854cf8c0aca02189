"""What was chosen for a text, and why, in five lines.

Tests: tests/planning/test_describe.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from llm_scratch.config import RunConfig
from llm_scratch.planning.text_facts import TextFacts
from llm_scratch.training.plan import Plan


def describe(config: RunConfig, facts: TextFacts, plan: Plan, reasons: Mapping[str, str], n_train: int, n_val: int) -> dict[str, str]:
    """Five subjects (text, tokenizer, rows, model, training), each with a sentence.

    Args:
        config: what was chosen.
        facts: of the text.
        plan: of the run.
        reasons: subject -> why, from the rules.
        n_train, n_val: tokens for training and for validation.
    """
    model, data, train = config.model, config.data, config.train
    documents = f"{facts.n_documents:,} document{'s' * (facts.n_documents != 1)}"
    vocabulary = f"{model.vocab_size:,} tokens of {facts.n_characters / (n_train + n_val):.1f} characters"
    sample = data.tokenizer_sample
    learned = f", learned from {sample / 1e6:.1f} of {facts.n_characters / 1e6:.1f} M characters" if sample else ""
    dropout = f", dropout {model.drop_rate:g}" if model.drop_rate else ""
    passes = plan.passes or 0.0
    times = f"{passes:.1f} times over the text" if passes >= 0.995 else f"{passes:.0%} of the text"
    return {
        "text": f"{documents}, {_size(facts.n_bytes)}, {facts.n_distinct:,} different characters; "
        f"{n_val / (n_train + n_val):.1%} kept for validation: {reasons.get('split') or 'the end of the text'}",
        "tokenizer": f"{data.tokenizer}, {vocabulary}{learned}: {reasons['tokenizer']}",
        "rows": f"{model.context_length} tokens, {train.batch_size} in a step: {reasons['rows']}",
        "model": f"{model.architecture}, {model.n_layers} layers of {model.emb_dim}, {model.n_params / 1e6:.2f} M parameters{dropout}: "
        f"{reasons['model']}",
        "training": f"{plan.steps:,} steps, {plan.tokens / 1e6:.1f} M tokens, {times}: {reasons['training']}",
    }


def _size(n_bytes: float) -> str:
    """Bytes as files are counted: 20 kB, 1.1 MB."""
    scale, unit = next((s, u) for s, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes")) if n_bytes >= s or s == 1)
    return f"{n_bytes / scale:.3g} {unit}"
