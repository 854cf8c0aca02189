"""Compiled steps write what plain ones do; a prompt is read as it was."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch._inductor.exc import CppCompileError
from torch.nn import functional as F

from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.model import build, compiled
from llm_scratch.model.compiled import WrittenOut, compile_steps, product_of_one_row
from llm_scratch.model.packed import can_pack, pack
from llm_scratch.model.quantized import quantize

CONFIG = ModelConfig(vocab_size=50, context_length=64, emb_dim=64, n_heads=4, n_layers=2, drop_rate=0.0)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU")


def a_model(kind):
    """A model by its architecture and, after a space, its bits."""
    architecture, *bits = kind.split()
    model = build(replace(CONFIG, architecture=architecture, init="gpt2" if architecture == "gpt" else "torch")).eval()
    with torch.no_grad():
        for matrix in model.parameters():  # the modern one begins with zeros
            matrix.add_(torch.randn_like(matrix), alpha=0.02)
    if bits == ["16"]:
        return model.bfloat16()
    return quantize(model, int(bits[0])) if bits else model


def read(model, ids, first, blanks=0):
    """Logits of a text whose first tokens are read at once and the others one by one; the first row begins with blanks."""
    cache = model.new_cache(len(ids), block=20)
    if blanks:
        cache.blanks = torch.tensor([blanks] + [0] * (len(ids) - 1))
    parts = [model(ids[:, :first], cache), *(model(ids[:, i : i + 1], cache) for i in range(first, ids.shape[1]))]
    return torch.cat(parts, dim=1)


@pytest.fixture
def compilings(monkeypatch):
    """How often the compiler is called, as a list that grows."""
    calls, real = [], torch._inductor.aot_compile
    monkeypatch.setattr(torch._inductor, "aot_compile", lambda *args, **more: calls.append(args) or real(*args, **more))
    return calls


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_a_product_of_one_row_is_a_linear(shape, bias):
    x, weight, bias = torch.randn(shape), torch.randn(7, 5), torch.randn(7) if bias else None
    torch.testing.assert_close(product_of_one_row(x, weight, bias), F.linear(x, weight, bias))
    apart = torch.randn(*shape, 2)[..., 0]  # its numbers do not lie side by side
    torch.testing.assert_close(product_of_one_row(apart, weight, bias), F.linear(apart, weight, bias))


def test_written_out_takes_the_place_of_every_linear(monkeypatch):
    rows = []
    monkeypatch.setattr(compiled, "product_of_one_row", lambda *given: rows.append(given[0].shape) or product_of_one_row(*given))
    layer, x = torch.nn.Linear(5, 7), torch.randn(1, 1, 5)
    with WrittenOut():
        inside = layer(x) + 0
    assert rows == [(1, 1, 5)]
    torch.testing.assert_close(inside, layer(x))
    assert len(rows) == 1


@pytest.mark.slow  # a compiler works for a minute
@needs_compiler
@pytest.mark.parametrize("kind", ["gpt", "gpt 16", "gpt 8", "gpt 4", "modern", "modern 4"])
def test_the_scores_agree_for_every_size_of_batch_and_cache_and_with_blanks(kind, compilings):
    torch.manual_seed(0)
    model = a_model(kind)
    sizes = [(1, 5, 0), (2, 5, 0), (3, 20, 2), (1, 30, 0), (2, 2, 1), (20, 19, 0), (1, 4, 1)]
    texts = [(torch.randint(50, (rows, 40 if rows < 3 else 64)), first, blanks) for rows, first, blanks in sizes]
    with torch.inference_mode():
        plain = [read(model, *text) for text in texts]
        compile_steps(model)
        for text, want in zip(texts, plain, strict=True):
            off = 1e-4 if kind in ("gpt", "modern") else 2e-2  # bfloat16 within; in 8 bits a last bit can move an input by a step
            torch.testing.assert_close(read(model, *text), want, rtol=off, atol=off)
    assert len(compilings) == 4, "one row and rows, without blanks and with, for every length of text and cache"


@pytest.mark.slow
@needs_compiler
@torch.inference_mode()
def test_a_kept_program_serves_every_model_of_its_shape(tmp_path, compilings):
    ids = torch.randint(50, (2, 12))
    models = [a_model("gpt"), a_model("gpt"), a_model("gpt 8"), a_model("gpt 8")]
    plain = [read(model, ids, 5) for model in models]
    for model, want in list(zip(models, plain, strict=True)) * 2:
        if "hidden" not in vars(model):
            compile_steps(model, folder=tmp_path / "steps")
        torch.testing.assert_close(read(model, ids, 5), want, rtol=1e-4, atol=1e-4)
    assert len(compilings) == len(list((tmp_path / "steps").iterdir())) == 2


@pytest.mark.slow
@needs_compiler
@torch.inference_mode()
def test_where_no_program_can_be_kept_it_is_compiled(tmp_path):
    (tmp_path / "file").touch()
    model, ids = a_model("gpt"), torch.randint(50, (1, 12))
    plain = read(model, ids, 5)
    torch.testing.assert_close(read(compile_steps(model, folder=tmp_path / "file"), ids, 5), plain, rtol=1e-4, atol=1e-4)


def test_a_compiler_that_fails_is_named(monkeypatch, tmp_path):
    def fails(*args, **more):
        raise CppCompileError(["g++"], "out of disk")

    monkeypatch.setattr(torch._inductor, "aot_compile", fails)
    told = []
    model = compile_steps(a_model("gpt"), folder=tmp_path, tell=lambda: told.append(1))
    with pytest.raises(UserError, match=r"compiling a step failed, .*; write without --compile"):
        read(model, torch.randint(50, (1, 6)), 5)
    assert (told, list(tmp_path.iterdir())) == ([1], [])


@torch.no_grad()
def test_a_prompt_and_a_text_without_cache_are_not_compiled(monkeypatch):
    steps = []
    monkeypatch.setattr(compiled, "program", lambda model, hidden, *_: lambda ids, cache: counted(hidden, ids, cache))

    def counted(hidden, ids, cache):
        assert cache.pos + 1 < cache.keys[0].shape[2], "a program takes a cache with a place more than it needs"
        steps.append(ids.shape[1])
        x = hidden(ids, cache)
        cache.advance(-1)  # which a program does not do
        return x

    model = a_model("gpt")
    ids = torch.randint(50, (2, 64))
    plain = model(ids)
    compile_steps(model)
    torch.testing.assert_close(model(ids), plain)
    assert steps == []
    torch.testing.assert_close(read(model, ids, 5), plain)
    assert steps == [1] * 59  # to the last place of the context, growing on the way
    read(model, ids[:, :4], 1)
    assert len(steps) == 61  # the second token is read as a prompt
    with pytest.raises(ValueError, match="65 tokens do not fit context_length=64"):
        read(model, torch.cat([ids, ids[:, :1]], dim=1), 63)


@torch.no_grad()
def test_a_cache_of_another_model_is_the_error_that_it_was():
    model, other = a_model("gpt"), build(replace(CONFIG, n_heads=2))
    ids = torch.randint(50, (1, 4))
    for each in (model, compile_steps(model)):
        cache = other.new_cache(1)
        cache.advance(3)
        with pytest.raises(RuntimeError, match="expand"):
            each(ids[:, 3:], cache)


def test_what_cannot_be_compiled_is_an_error():
    with pytest.raises(ValueError, match="the model is on meta; steps are compiled for a CPU"):
        compile_steps(build(CONFIG).to("meta"))
    if can_pack():
        with pytest.raises(ValueError, match="a packed matrix cannot be compiled"):
            compile_steps(pack(build(CONFIG)))
