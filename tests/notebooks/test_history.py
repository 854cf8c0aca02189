"""docs/notebook_history.md: errors of the notebooks, shown on their original code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from attention import SelfAttention_v1, SelfAttention_v2, attention_weights
from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.interop.openai_export import save_gpt2
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.words import SimpleTokenizerV2, build_vocab, split_words

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "notebook_history.md"
WORDS = torch.tensor(
    [
        [0.43, 0.20, 0.90],
        [0.56, 0.84, 0.56],
        [0.22, 0.85, 0.34],
        [0.77, 0.25, 0.36],
        [0.05, 0.80, 0.79],
        [0.77, 0.46, 0.12],
    ]
)


def test_tests_named_by_the_history_page_exist():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) >= 25
    for file, test in named:
        code = (ROOT / "tests" / "notebooks" / file).read_text(encoding="utf-8")
        assert f"def {test}(" in code, f"{file}::{test}"


def test_history_page_rows_name_a_test():
    rows = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| In the notebook")
    ]
    assert [row[:60] for row in rows if "::test_" not in row] == []


def test_two_cutting_rules_lose_three_tokens(verdict):
    vocab = build_vocab(verdict)
    other_rule = re.split(r"""([,.:;?!"()']|--|\s)""", "multiplied its _rs_ as though")
    kept = [word for word in other_rule if word in vocab]
    assert len(split_words("multiplied its _rs_ as though")) - len(kept) == 3


def test_misspelled_special_tokens_change_nothing(verdict):
    vocab = build_vocab(verdict, ("<endoftext|>", "|unk|>"))
    assert list(vocab.items())[-2:] == [("<endoftext|>", 1130), ("|unk|>", 1131)]
    tokenizer = SimpleTokenizerV2(vocab, unknown="drop")
    ids = tokenizer.encode("Hello, do like tea, is this a test?")
    assert ids == [5, 355, 628, 975, 5, 584, 999, 115, 10]
    assert tokenizer.decode(ids) == ", do like tea, is this a?"


def test_setting_that_nothing_reads_is_an_error():
    assert torch.nn.Embedding(50257, 10).num_embeddings != 100
    with pytest.raises(UserError, match="embed_dim"):
        ModelConfig.of({"vocab_size": 100, "embed_dim": 10})


def test_indented_definition_is_not_extracted():
    with pytest.raises(IndentationError):
        compile(" class GELU:\n     pass\n", "step3.py", "exec")


def test_global_names_give_the_printed_rows(assert_prints):
    """The weights were those of an earlier section, whatever the input."""
    stale = (WORDS @ WORDS.T).softmax(-1)
    torch.manual_seed(123)
    first = SelfAttention_v1(3, 2)
    assert_prints((stale @ (WORDS @ first.W_value))[0], [0.2772, 0.7753])
    torch.manual_seed(123)
    second = SelfAttention_v2(3, 2)
    assert_prints((stale @ second.W_value(WORDS))[0], [-0.5356, -0.0864])


def test_cube_of_a_mask_makes_six_copies(assert_prints):
    torch.manual_seed(123)
    layer = SelfAttention_v2(3, 2)
    queries, keys = layer.W_query(WORDS), layer.W_key(WORDS)
    cube = torch.ones(6, 6, 6).triu(1).bool()
    copies = ((queries @ keys.T).masked_fill(cube, -torch.inf) / 2**0.5).softmax(-1)
    right = attention_weights(queries[None, None], keys[None, None])[0, 0]
    for copy in copies:
        torch.testing.assert_close(copy, right)
    torch.manual_seed(123)
    assert_prints(torch.nn.Dropout(0.5)(copies)[0, 0], [2.0, 0, 0, 0, 0, 0])


def test_release_is_read_without_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    tokenizer = TOKENIZERS["bpe"](["the cat sat on the mat. " * 9], 260)
    config = {"vocab_size": 260, "context_length": 8, "emb_dim": 12, "n_heads": 2}
    model = GPTModel({**config, "n_layers": 1, "qkv_bias": True, "tie_embeddings": True})
    save_gpt2(model, tokenizer, tmp_path / "124M")
    loaded, _ = load_gpt2(tmp_path / "124M")
    assert torch.equal(loaded.tok_emb.weight, model.tok_emb.weight)
