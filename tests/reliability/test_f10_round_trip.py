"""F10: to transformers and back: the same bits, the same logits, the same ids."""

from dataclasses import replace

import pytest
import torch

from llm_scratch.config import ModelConfig
from llm_scratch.interop.hf_export import export_hf, logits_differ, sample_texts
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.tokenizers import CharTokenizer
from llm_scratch.tokenizers.bpe import ByteBPE

transformers = pytest.importorskip("transformers", reason="transformers is the other end; install the hf extra")
CFG = ModelConfig(vocab_size=300, context_length=48, emb_dim=48, n_heads=4, n_layers=3, drop_rate=0.0)
KINDS = [
    replace(CFG, tie_embeddings=tied, qkv_bias=bias, architecture=architecture)
    for tied, bias, architecture in ((True, True, "gpt"), (False, False, "gpt"), (True, False, "gpt-erf"), (False, True, "gpt-erf"))
]
TEXT = "the cat sat on the mat, and the hat — naïve 😀\n\t" * 20
TEXTS = 10_000


def random_model(cfg):
    torch.manual_seed(11)
    model = build(cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return model


def test_f10_there_and_back(tmp_path, measured):
    tokenizer, largest = ByteBPE.train([TEXT], 285), 0.0
    for i, cfg in enumerate(KINDS):
        model, folder = random_model(cfg), tmp_path / str(i)
        assert export_hf(model, tokenizer, folder) is not None
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        theirs.save_pretrained(tmp_path / f"theirs {i}", max_shard_size="40KB")
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / f"theirs {i}")
        for back in (load(folder)[0], load(tmp_path / f"theirs {i}")[0]):
            largest = max(largest, logits_differ(back, theirs), logits_differ(model, theirs))
            own = dict(back.named_parameters())
            assert all(torch.equal(own[name], parameter) for name, parameter in model.named_parameters())
    assert largest <= 1e-5
    for known in (tokenizer, CharTokenizer.train([TEXT])):
        folder = tmp_path / type(known).__name__
        export_hf(random_model(CFG), known, folder)
        theirs, texts = transformers.AutoTokenizer.from_pretrained(folder), sample_texts(known, TEXTS)
        ids = [known.encode(text, allowed_special="all") for text in texts]
        assert theirs(texts, verbose=False)["input_ids"] == ids
        back = load(folder)[1]
        assert [back.encode(text, allowed_special="all") for text in texts] == ids
    reached = f"{len(KINDS)} kinds of GPT: every tensor bit-equal, logits within {largest:.0e}, ids of {TEXTS:,} texts equal"
    measured("F10", reached, "bit-equal, 1e-5, 10,000 texts")
