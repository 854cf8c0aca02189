"""Texts at once that no memory can hold are refused before the first token."""

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.generation import memory_check
from llm_scratch.generation.memory_check import check_rows
from llm_scratch.model.gpt import GPTModel

CFG = {
    "vocab_size": 61,
    "context_length": 12,
    "emb_dim": 16,
    "n_heads": 2,
    "n_layers": 3,
    "drop_rate": 0.0,
    "qkv_bias": False,
}
ROW = 2 * 12 * 16 * 3 * 4 + 4 * 61  # keys and values of 12 tokens, logits


def test_rows_that_do_not_fit_are_refused_with_a_number_that_does(monkeypatch):
    model = GPTModel(CFG)
    monkeypatch.setattr(memory_check, "free_memory", lambda device: 100 * ROW)
    check_rows(model, 100, 500)
    with pytest.raises(
        UserError, match="^memory: 101 texts at once need .* give --samples 50 or fewer"
    ) as error:
        check_rows(model, 101, 500)
    assert error.value.code == RESOURCES
    monkeypatch.setattr(memory_check, "free_memory", lambda device: None)
    check_rows(model, 101, 500)
