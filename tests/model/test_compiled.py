"""Compiled steps write what plain ones do; a prompt is read as it was."""

import shutil

import pytest
import torch

from llm_scratch.config import ModelConfig
from llm_scratch.model import build
from llm_scratch.model.compiled import compile_steps
from llm_scratch.model.packed import can_pack, pack
from llm_scratch.model.quantized import quantize

CONFIG = ModelConfig(vocab_size=50, context_length=64, emb_dim=64, n_heads=4, n_layers=2, drop_rate=0.0)


def read(model, ids, first):
    """Logits of a text whose first tokens are read at once and the others one by one."""
    cache = model.new_cache(len(ids), block=16)
    parts = [model(ids[:, :first], cache), *(model(ids[:, i : i + 1], cache) for i in range(first, ids.shape[1]))]
    return torch.cat(parts, dim=1)


@pytest.mark.slow  # a compiler works for a minute
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU")
@pytest.mark.parametrize("bits", [32, 8])
@torch.no_grad()
def test_the_scores_agree(bits):
    torch.manual_seed(0)
    model = build(CONFIG).eval()
    model = model if bits == 32 else pack(quantize(model, bits))
    ids = torch.randint(50, (2, 40))
    plain = read(model, ids, 5)
    torch.testing.assert_close(read(compile_steps(model), ids, 5), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not can_pack(), reason="needs oneDNN on an x86 processor")
def test_a_packed_matrix_is_refused():
    with pytest.raises(ValueError, match="cannot be compiled; leave out pack"):
        compile_steps(pack(build(CONFIG)))


@torch.no_grad()
def test_a_prompt_and_a_text_without_cache_are_not_compiled(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda f, **how: lambda *given: compiled.append(given[0].shape[1]) or f(*given))
    model = build(CONFIG).eval()
    ids = torch.randint(50, (2, 9))
    plain = model(ids)
    compile_steps(model)
    torch.testing.assert_close(model(ids), plain)
    assert compiled == []
    torch.testing.assert_close(read(model, ids, 5), plain)
    assert compiled == [1] * 4
