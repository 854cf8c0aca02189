"""An output head computes single rows by a compiled program where that is faster."""

import shutil
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llm_scratch.model import compiled, quantized
from llm_scratch.model.compiled import compile_head, load_or_compile
from llm_scratch.model.kernel_choice import KernelChoice
from llm_scratch.model.matvec import MatvecChoice
from llm_scratch.model.quantized import QuantizedLinear, to_int4, to_int8
from llm_scratch.model.quantized_kernels import (
    Expanded,
    Fbgemm7Matmul,
    IntMatmul,
    WeightOnlyInt4,
    WeightOnlyInt8,
)
from llm_scratch.model.written_kernels import WRITTEN

PARTS = MatvecChoice(4, compiles_head=True)


def quantized_head(bits, kernel, written, monkeypatch):
    """A head of 50 tokens whose product is by `kernel`, in a compiled step by WRITTEN if so."""
    head = QuantizedLinear(*(to_int8 if bits == 8 else to_int4)(torch.randn(50, 64)))
    choice = KernelChoice(kernel, "", None, None)
    monkeypatch.setattr(quantized, "choose_kernel", lambda *_: choice)
    kinds = (WRITTEN[bits] if written else IntMatmul), None
    monkeypatch.setattr(quantized, "traceable_kernels", lambda *_: kinds)
    head.prepare_for_export()
    return head


@pytest.fixture
def rows(monkeypatch):
    """The rows for which a program runs, as a list that grows; its logits are ones."""
    rows = []

    def compile_(module, example, shapes, load):
        return lambda x: rows.append((x.shape, x.dtype)) or torch.ones(1, 50, dtype=x.dtype)

    monkeypatch.setattr(compiled, "_compile", compile_)
    return rows


@pytest.mark.parametrize(
    ("bits", "kernel", "written", "gains"),
    [
        (4, WeightOnlyInt4, True, True),
        (4, Expanded, True, True),
        (8, IntMatmul, True, True),
        (8, WeightOnlyInt8, True, True),
        (8, Fbgemm7Matmul, True, False),  # not compared with it
        (8, IntMatmul, False, False),
    ],
)
def test_quantized_head_is_compiled_where_the_written_kernel_is_faster(
    bits, kernel, written, gains, rows, monkeypatch
):
    model = SimpleNamespace(out_head=quantized_head(bits, kernel, written, monkeypatch))
    compile_head(model, PARTS, None)
    one = model.out_head(torch.randn(1, 1, 64).bfloat16())
    three = model.out_head(torch.randn(1, 3, 64))
    assert rows == [((1, 64), torch.float32)] * gains
    assert torch.equal(one, torch.ones(1, 1, 50).bfloat16()) == gains
    assert one.dtype == torch.bfloat16
    assert three.shape == (1, 3, 50)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_faster", [True, False])
def test_plain_head_is_compiled_where_that_is_faster(is_faster, dtype, rows, monkeypatch):
    monkeypatch.setattr(compiled, "MIN_TRIAL_WIDTH", 50)
    head = nn.Linear(64, 50, bias=False).to(dtype)
    model = SimpleNamespace(out_head=head)
    compile_head(model, MatvecChoice(4, is_faster), None)
    for shape in (64,), (1, 64), (1, 1, 64):
        assert model.out_head(torch.randn(shape).to(dtype)).shape == (*shape[:-1], 50)
    assert model.out_head(torch.randn(2, 1, 64).to(dtype)).shape == (2, 1, 50)
    assert rows == [((1, 64), dtype)] * 3 * is_faster
    assert model.out_head.weight is head.weight


def test_small_head_is_not_compiled(rows):
    head = nn.Linear(64, 50)
    model = SimpleNamespace(out_head=head)
    compile_head(model, PARTS, None)
    assert model.out_head is head


def test_row_that_is_not_contiguous_is_copied_for_the_program():
    strides = []
    head = compiled.CompiledHead(
        nn.Identity(), lambda x: strides.append(x.stride()) or x, torch.float32
    )
    row = torch.randn(1, 1, 8, 2)[..., 0]
    torch.testing.assert_close(head(row), row)
    assert strides == [(8, 1)]


def test_head_of_another_kind_is_left_alone(rows):
    head = nn.Identity()
    model = SimpleNamespace(out_head=head)
    compile_head(model, PARTS, None)
    assert model.out_head is head


def test_huge_pages_are_for_the_weights_that_a_compiled_row_reads(monkeypatch):
    head = quantized_head(8, IntMatmul, True, monkeypatch)
    words = head._export_kernels[0].words
    assert (words.data_ptr(), words.nbytes) in head.memory_ranges()


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)
@pytest.mark.parametrize("kind", ["plain", "4 bits"])
def test_compiled_head_gives_the_product(kind, monkeypatch, tmp_path):
    x, compilings = torch.randn(1, 64), []
    load = partial(load_or_compile, folder=tmp_path, on_compile=lambda: compilings.append(1))
    monkeypatch.setattr(compiled, "MIN_TRIAL_WIDTH", 50)
    for _ in range(2):  # the second one loads the program
        head = nn.Linear(64, 50, bias=False)
        if kind == "4 bits":
            head = quantized_head(4, Expanded, True, monkeypatch)
        model = SimpleNamespace(out_head=head)
        compile_head(model, PARTS, load)
        assert model.out_head is not head
        torch.testing.assert_close(model.out_head(x), x @ head.weight.T, rtol=1e-4, atol=1e-4)
    assert len(compilings) == 1
