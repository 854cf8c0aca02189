"""Batches that do not fit into memory are refused before the first token."""

import pytest

from llm_scratch.errors import RESOURCES, UserError
from llm_scratch.generation import memory_check
from llm_scratch.generation.memory_check import ROW_BYTES, check_rows
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
ROW = ROW_BYTES + 2 * 12 * 16 * 3 * 4 + 4 * 61  # keys and values of 12 tokens, logits


def test_batch_that_does_not_fit_is_refused_with_a_size_that_does(monkeypatch):
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


def test_million_texts_of_a_tiny_model_are_refused(monkeypatch):
    """Their caches and logits take 4.9 GB, and each text also has a decoder of its own."""
    monkeypatch.setattr(memory_check, "free_memory", lambda device: 8 * 2**30)
    with pytest.raises(UserError, match=r"1,000,000 texts at once need at least 16 GiB"):
        check_rows(GPTModel(CFG), 10**6, 500)
