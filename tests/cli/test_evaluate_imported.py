"""`evaluate` gives the loss that transformers gives, for models whose texts begin with a token."""

from __future__ import annotations

import json

import pytest
import torch
from sentencepiece_style import sentencepiece

from llm_scratch.evaluation.loss import evaluate_text
from llm_scratch.loading import load

transformers = pytest.importorskip("transformers", reason="writes the models; the hf extra")

TEXTS = ["the cat sat on the mat, and the hat was on the cat", "a fox", "the dog can't sit " * 4]
CONTEXT = 12
SIZES = {
    "vocab_size": 600,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


@pytest.fixture(scope="module", params=["Llama", "Gemma"])
def folder(request, tmp_path_factory):
    """A tiny model that transformers wrote, whose tokenizer puts `<s>` before each text."""
    path = tmp_path_factory.mktemp(request.param)
    (path / "tokenizer.json").write_text(json.dumps(sentencepiece(request.param)))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (path / "tokenizer_config.json").write_text(json.dumps(kind | special))
    torch.manual_seed(0)
    if request.param == "Llama":
        config = transformers.LlamaConfig(**SIZES)
    else:
        config = transformers.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    return path


@torch.no_grad()
def their_nats(folder, text):
    """Sum the loss over windows of a text that begin with `<s>` and the last token before."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    assert ids[0] == 1
    total = 0.0
    for at in range(0, len(ids) - 1, CONTEXT - 1):
        row = torch.tensor([[1, *ids[at + 1 : at + CONTEXT + 1]]])
        labels = row.clone()
        labels[0, : 2 if at else 1] = -100  # scored in the window before
        if n := int((labels[0, 1:] != -100).sum()):
            total += model(row, labels=labels).loss.item() * n
    return total, len(ids) - 1


def test_loss_of_an_imported_model_equals_that_of_transformers(llm, folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    (tmp_path / "one.txt").write_text(TEXTS[0])
    model, tokenizer = load(folder)
    want = [their_nats(folder, text) for text in TEXTS]
    assert want[0][1] > CONTEXT > want[1][1]
    for text, (nats, n_tokens) in zip(TEXTS, want):
        loss = evaluate_text(model, tokenizer, text)
        assert (loss.n_tokens, loss.n_bytes) == (n_tokens, len(text))
        assert loss.nats == pytest.approx(nats, rel=1e-5)
    for file, n in (("one.txt", 1), ("texts.jsonl", len(TEXTS))):
        nats, n_tokens = (sum(column) for column in zip(*want[:n]))
        found = json.loads(llm("evaluate", folder, "--text", file, "--json").out)
        assert found["tokens"] == n_tokens
        assert found["bytes"] == sum(map(len, TEXTS[:n]))
        assert found["loss_nats"] == pytest.approx(nats / n_tokens, rel=1e-5)


def test_quantize_measures_an_imported_model_on_the_same_windows(llm, folder, tmp_path):
    (tmp_path / "one.txt").write_text(TEXTS[0])
    whole = json.loads(llm("evaluate", folder, "--text", "one.txt", "--json").out)
    result = llm("quantize", folder, "--text", "one.txt", "--out", tmp_path / "q", "--json")
    found = json.loads(result.out)
    assert found["bits_per_byte_before"] == pytest.approx(whole["bits_per_byte"], rel=1e-6)
