"""The lines that describe a choice fit a terminal of 80 columns and name the chosen settings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llm_scratch.config import DataConfig, NanoChatConfig, RunConfig
from llm_scratch.planning import rules
from llm_scratch.planning.describe import describe
from llm_scratch.planning.rules import Budget
from llm_scratch.planning.text_facts import TextFacts

LABELS = 11  # columns before each sentence
BUDGET = Budget(300, 1e11)


def lines(facts, n_tokens, model, steps, epochs, left_out=0):
    """A choice of `choose_run` for a text, with the rules' reasons."""
    tokenizer = rules.choose_tokenizer(facts, BUDGET)
    split = rules.choose_split(facts.n_documents, n_tokens)
    rows = rules.choose_rows(facts, n_tokens, n_tokens / 10, BUDGET)
    training = rules.choose_steps(300, 0.15, 1536, n_tokens)
    reasons = {
        "tokenizer": tokenizer.reason,
        "split": split.reason,
        "rows": rows.reason,
        "training": training.reason,
    }
    reasons["model"] = "larger takes longer"
    data = DataConfig(
        tokenizer=tokenizer.settings["data.tokenizer"],
        tokenizer_sample=tokenizer.settings.get("data.tokenizer_sample"),
    )
    config = RunConfig(
        NanoChatConfig(vocab_size=tokenizer.settings["model.vocab_size"], **model), data
    )
    plan = SimpleNamespace(steps=steps, epochs=epochs)
    return describe(
        config, facts, plan, reasons, round(0.9 * n_tokens), round(0.1 * n_tokens), left_out
    )


@pytest.mark.parametrize(
    ("facts", "n_tokens"),
    [
        (TextFacts(20_500, 20_479, 62, 1, 165, 20_479), 20_479),
        (TextFacts(118_000, 118_000, 64, 300, 4500, 120), 118_000),
        (TextFacts(52_000_000, 50_000_000, 105, 1, 10**6, 50_000_000), 15_000_000),
        (TextFacts(5_500_000, 1_860_000, 4700, 19_000, 19_000, 100), 1_800_000),
    ],
)
def test_describe_lines_fit_the_terminal(facts, n_tokens):
    shape = {"n_layers": 4, "emb_dim": 192, "n_heads": 6, "context_length": 128, "drop_rate": 0.05}
    found = lines(facts, n_tokens, shape, 12_345, 0.34)
    assert list(found) == ["text", "tokenizer", "rows", "model", "training"]
    left_out = lines(facts, n_tokens, shape, 12_345, 0.34, n_tokens // 2)
    assert list(left_out) == [*found, "left out"]
    for subject, sentence in left_out.items():
        assert LABELS + len(sentence) <= 80, (subject, sentence)


def test_describe_names_the_chosen_settings():
    facts = TextFacts(52_000_000, 50_000_000, 105, 3, 10**6, 20_000_000)
    shape = {"n_layers": 4, "emb_dim": 192, "n_heads": 6, "context_length": 128, "drop_rate": 0.05}
    found = lines(facts, 15_000_000, shape, 1900, 0.17)
    assert "3 documents, 49.6 MiB; 10% for validation, the end of the text" in found["text"]
    assert "bpe, 4,096 tokens of 3.3 characters, learned from 32% of the text" in found["tokenizer"]
    assert "128 tokens, 16 in a step" in found["rows"]
    assert "4 layers of 192, 3.34 M parameters, dropout 0.05" in found["model"]
    assert "1,900 steps, 17% of the text; the time allows no more" in found["training"]
