"""A quantized output head computes single rows by a compiled program where that is faster."""

import shutil
from functools import partial

import pytest
import torch

from llm_scratch.model import compiled, quantized
from llm_scratch.model.compiled import compile_head, load_or_compile
from llm_scratch.model.kernel_choice import KernelChoice
from llm_scratch.model.quantized import QuantizedLinear, to_int4, to_int8
from llm_scratch.model.quantized_kernels import (
    Expanded,
    Fbgemm7Matmul,
    IntMatmul,
    WeightOnlyInt4,
    WeightOnlyInt8,
)
from llm_scratch.model.written_kernels import WRITTEN


def quantized_head(bits, kernel, written, monkeypatch):
    """A head of 50 tokens whose product is by `kernel`, in a compiled step by WRITTEN if so."""
    head = QuantizedLinear(*(to_int8 if bits == 8 else to_int4)(torch.randn(50, 64)))
    choice = KernelChoice(kernel, "", None, None)
    monkeypatch.setattr(quantized, "choose_kernel", lambda *_: choice)
    kinds = (WRITTEN[bits] if written else IntMatmul), None
    monkeypatch.setattr(quantized, "traceable_kernels", lambda *_: kinds)
    head.prepare_for_export()
    return head


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
    bits, kernel, written, gains, monkeypatch
):
    head = quantized_head(bits, kernel, written, monkeypatch)
    rows = []
    monkeypatch.setattr(
        compiled, "_compile", lambda *_: lambda x: rows.append(x.shape) or torch.ones(1, 50)
    )
    compile_head(head, None)
    one, three = head(torch.randn(1, 1, 64)), head(torch.randn(1, 3, 64))
    assert rows == [(1, 64)] * gains
    assert torch.equal(one, torch.ones(1, 1, 50)) == gains
    assert three.shape == (1, 3, 50)
    assert head.float().compiled_row is None  # moved tensors are not those of the program


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)
def test_compiled_head_gives_the_product(monkeypatch, tmp_path):
    x, compilings = torch.randn(1, 64), []
    load = partial(load_or_compile, folder=tmp_path, on_compile=lambda: compilings.append(1))
    for _ in range(2):  # the second one loads the program
        head = quantized_head(4, Expanded, True, monkeypatch)
        compile_head(head, load)
        torch.testing.assert_close(head(x), x @ head.weight.T, rtol=1e-4, atol=1e-4)
    assert len(compilings) == 1
