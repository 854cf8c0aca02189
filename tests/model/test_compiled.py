"""Compiled steps write what plain ones do; a prompt is read as it was."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters

from llm_scratch.config import ModelConfig
from llm_scratch.model import build
from llm_scratch.model.compiled import compile_steps
from llm_scratch.model.packed import can_pack, pack, packed_product
from llm_scratch.model.quantized import quantize

CONFIG = ModelConfig(vocab_size=50, context_length=64, emb_dim=64, n_heads=4, n_layers=2, drop_rate=0.0)


def read(model, ids, first, blanks=0):
    """Logits of a text whose first tokens are read at once and the others one by one; the first row begins with blanks."""
    cache = model.new_cache(len(ids), block=20)
    if blanks:
        cache.blanks = torch.tensor([blanks] + [0] * (len(ids) - 1))
    parts = [model(ids[:, :first], cache), *(model(ids[:, i : i + 1], cache) for i in range(first, ids.shape[1]))]
    return torch.cat(parts, dim=1)


@pytest.mark.slow  # a compiler works for a minute
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU")
@pytest.mark.parametrize("kind", ["gpt", "gpt packed", "gpt 8", "gpt 4", "modern packed", "modern 4"])
@torch.inference_mode()
def test_the_scores_agree_for_every_size_of_batch_and_cache_and_with_blanks(kind):
    torch.manual_seed(0)
    architecture, *how = kind.split()
    model = build(replace(CONFIG, architecture=architecture, init="gpt2" if architecture == "gpt" else "torch")).eval()
    for matrix in model.parameters():  # the modern one begins with zeros
        matrix.add_(torch.randn_like(matrix), alpha=0.02)
    if how and how[0] in "84":
        quantize(model, int(how[0]))
    model = pack(model) if how else model
    texts = [
        (torch.randint(50, (rows, 40)), first, blanks) for rows, first, blanks in ((1, 5, 0), (2, 5, 0), (3, 20, 2), (1, 30, 0), (2, 1, 1))
    ]
    plain = [read(model, *text) for text in texts]
    compile_steps(model)
    counters.clear()
    for text, want in zip(texts, plain, strict=True):
        torch.testing.assert_close(read(model, *text), want, rtol=1e-4, atol=2e-3 if kind.endswith("4") else 1e-4)  # bfloat16 within
    assert counters["stats"]["unique_graphs"] == 3, "one row, rows, rows with blanks: for every length of text and cache"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU")
@torch.inference_mode()
def test_two_models_do_not_take_each_others_steps():
    ids = torch.randint(50, (2, 12))
    models = [build(CONFIG).eval(), build(CONFIG).eval(), quantize(build(CONFIG).eval(), 8)]  # whose caches are the same
    plain = [read(model, ids, 5) for model in models]
    for model, want in list(zip(models, plain, strict=True)) * 2:
        if "hidden" not in vars(model):
            compile_steps(model)
        torch.testing.assert_close(read(model, ids, 5), want, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not can_pack(), reason="needs oneDNN on an x86 processor")
def test_a_packed_product_is_one_whole_for_a_compiler():
    packed, x = torch.ops.mkldnn._reorder_linear_weight(torch.randn(8, 4), None), torch.randn(3, 2, 4)
    whole = torch.ops.llm_scratch.packed_product
    torch.testing.assert_close(whole(x, packed, None, 8), packed_product(x, packed, None, 8))
    assert whole(x.to("meta"), packed.to_dense().to("meta"), None, 8).shape == (3, 2, 8)


@torch.no_grad()
def test_a_prompt_and_a_text_without_cache_are_not_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **how: lambda *given: compiled.append(given[0].shape[1]) or f(*given))
    model = build(CONFIG).eval()
    ids = torch.randint(50, (2, 64))
    plain = model(ids)
    compile_steps(model)
    torch.testing.assert_close(model(ids), plain)
    assert compiled == []
    torch.testing.assert_close(read(model, ids, 5), plain)
    assert compiled == [1] * 59  # to the last place of the context, growing on the way
