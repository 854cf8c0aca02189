"""Products written as sums for a compiler equal the formula.

They are chosen where a trial finds them faster.
"""

import shutil
from functools import partial

import pytest
import torch

from llm_scratch.hardware.compiled_products import WIDE_COPIES, compile_options
from llm_scratch.hardware.trials import time_tokens
from llm_scratch.model import written_kernels
from llm_scratch.model.quantized_kernels import (
    KERNELS,
    TRACEABLE,
    Fbgemm7Matmul,
    IntMatmul,
    WeightOnlyInt4,
    WeightOnlyInt8,
    random_weight,
    usable,
)
from llm_scratch.model.written_kernels import (
    WRITTEN,
    is_correct,
    traceable_kernels,
)

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("N", "K"), [(1, 32), (40, 64), (37, 160)])
@pytest.mark.parametrize("bits", [8, 4])
def test_written_product_equals_the_formula(bits, N, K, with_bias):
    generator = torch.Generator().manual_seed(N)
    weight = random_weight(bits, max(N, 2), K, generator)
    x, bias = torch.randn(1, K, generator=generator), torch.randn(max(N, 2)) if with_bias else None
    exact = x.double() @ weight.dequantize().double().T + (0 if bias is None else bias)
    torch.testing.assert_close(WRITTEN[bits](weight)(x, bias).double(), exact, rtol=1e-5, atol=1e-3)
    assert is_correct(bits)


@pytest.mark.slow  # compiling takes some seconds
@needs_compiler
@pytest.mark.parametrize("bits", [8, 4])
def test_compiled_product_equals_the_formula(bits):
    weight = random_weight(bits, 96, 128, torch.Generator().manual_seed(1))
    x, product = torch.randn(1, 128), WRITTEN[bits](weight)
    with torch.no_grad():
        compiled = torch.compile(product, options=compile_options(), dynamic=False)
        torch.testing.assert_close(
            compiled(x, None), x @ weight.dequantize().T, rtol=1e-5, atol=1e-3
        )


@pytest.mark.timing
@needs_compiler
@pytest.mark.parametrize("bits", [8, 4])
def test_wide_copies_make_a_compiled_row_faster(bits):
    if WIDE_COPIES not in compile_options()["cpp.enable_floating_point_contract_flag"]:
        pytest.skip(f"this processor or its compiler gains nothing by {WIDE_COPIES}")
    weight = random_weight(bits, 2048, 1024, torch.Generator().manual_seed(1))
    x, product = torch.randn(1, 1024), WRITTEN[bits](weight)
    plain = compile_options() | {"cpp.enable_floating_point_contract_flag": "fast"}
    with torch.no_grad():
        calls = {}
        for name, options in {"plain": plain, "wide": compile_options()}.items():
            run = torch.compile(product, options=options, dynamic=False)
            run(x, None)
            calls[name] = [partial(run, x, None)]
        seconds = time_tokens(calls)
    assert seconds["plain"] > 1.3 * seconds["wide"], seconds


class Product(torch.nn.Module):
    """A kernel as a module, for export."""

    def __init__(self, kernel):
        super().__init__()
        self.kernel = kernel

    def forward(self, x):
        return self.kernel(x, None)


@pytest.mark.slow  # compiling takes some seconds
@needs_compiler
@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch imports what it deprecates
@pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name][1] in TRACEABLE])
def test_traceable_kernel_is_the_same_for_any_number_of_rows_when_compiled(name):
    bits, kernel = KERNELS[name]
    if name not in usable(bits):
        pytest.skip(f"{name} does not work on this processor or with this torch")
    weight = random_weight(bits, 256, 128, torch.Generator().manual_seed(1))
    product = Product(kernel(weight))
    with torch.no_grad():
        rows = {0: torch.export.Dim("rows", min=2, max=64)}
        program = torch.export.export(product, (torch.randn(3, 128),), dynamic_shapes=(rows,))
        package = torch._inductor.aoti_compile_and_package(program)
        compiled = torch._inductor.aoti_load_package(package)
        for n_rows in (2, 3, 17):
            x = torch.randn(n_rows, 128)
            torch.testing.assert_close(compiled(x), product(x))


@pytest.fixture
def choose(monkeypatch):
    """Return the traceable kernels of a wide matrix for usable kernels and given seconds."""

    def chosen(bits, ours, names, written=1.0, theirs=(1.0,), width=128):
        class Choice:
            kernel = ours

        monkeypatch.setattr(written_kernels, "choose_kernel", lambda *_: Choice)
        monkeypatch.setattr(written_kernels, "usable", lambda bits: names)
        seconds = {"written": written, **dict(zip(names, theirs))}
        monkeypatch.setattr(written_kernels, "compiled_kernel_seconds", lambda *_: seconds)
        return traceable_kernels(random_weight(bits, width, width, torch.Generator()))

    return chosen


def test_faster_of_written_kernel_and_torch_is_chosen(choose):
    assert choose(8, IntMatmul, ("int_mm",), written=1, theirs=[2]) == (WRITTEN[8], IntMatmul)
    assert choose(8, IntMatmul, ("int_mm",), written=2, theirs=[2]) == (IntMatmul, IntMatmul)
    assert choose(4, WeightOnlyInt4, ("int4 weight-only",), written=1, theirs=[2]) == (
        WRITTEN[4],
        WeightOnlyInt4,
    )


def test_fastest_kernel_of_torch_is_chosen(choose):
    names = "int_mm", "int8 weight-only"
    assert choose(8, IntMatmul, names, written=3, theirs=[4, 1]) == (WeightOnlyInt8, IntMatmul)
    assert choose(8, IntMatmul, names, written=3, theirs=[1.05, 1]) == (IntMatmul, IntMatmul)
    assert choose(8, IntMatmul, names, written=3, theirs=[1, 4]) == (IntMatmul, IntMatmul)
    assert choose(8, IntMatmul, names, written=1, theirs=[3, 4]) == (WRITTEN[8], IntMatmul)


def test_written_kernel_is_used_without_one_of_torch(choose):
    assert choose(8, Fbgemm7Matmul, ("fbgemm, 7-bit inputs",)) == (WRITTEN[8], None)


def test_width_that_is_not_a_multiple_of_a_word_has_no_written_kernel():
    weight = random_weight(8, 6, 7, torch.Generator())
    one, several = traceable_kernels(weight)
    assert one is None or one in TRACEABLE
    assert several is None or several in TRACEABLE


def test_written_kernel_with_another_byte_order_is_rejected(monkeypatch):
    monkeypatch.setattr(
        written_kernels.WrittenInt8,
        "__call__",
        lambda self, x, bias: x @ self.words.flatten(1).float().T.repeat(4, 1),
    )
    is_correct.cache_clear()
    try:
        assert not is_correct(8)
    finally:
        is_correct.cache_clear()
