"""The chosen kernel is the fastest for a typical text, never one slower than float32."""

import pytest
import torch

from llm_scratch.hardware import packed_matmul
from llm_scratch.model import kernel_choice
from llm_scratch.model.kernel_choice import (
    MANY_ROWS,
    choose_kernel,
    kernel_seconds,
    linear_expanded,
)
from llm_scratch.model.quantized import QuantizedLinear, to_int4, to_int8
from llm_scratch.model.quantized_kernels import Expanded, Fbgemm7Matmul, IntMatmul, random_weight


@pytest.fixture
def measured(monkeypatch):
    """Let the trial find these seconds; unnamed kernels do not work."""

    def seconds(float32, expand=(90.0, 90.0), **kernels):
        names = {"int_mm": "int_mm", "fbgemm": "fbgemm", "fbgemm7": "fbgemm, 7-bit inputs"}
        found = dict(zip(kernel_choice.MANY_ROW_DTYPES, expand))
        for key, (one, prompt) in kernels.items():
            found |= {names[key]: one, f"{names[key]}, prompt": prompt}
        monkeypatch.setattr(
            kernel_choice, "usable", lambda bits: tuple(names[key] for key in kernels)
        )
        monkeypatch.setattr(kernel_choice, "kernel_seconds", lambda bits, width: found)
        monkeypatch.setattr(
            kernel_choice,
            "linear_seconds",
            lambda width: {"float32": 9999.0, "float32 packed": float32},
        )

    return seconds


def test_fastest_kernel_for_a_typical_text_is_chosen(measured):
    measured(100, int_mm=(40, 20), fbgemm7=(15, 5))
    choice = choose_kernel(8, 768)
    assert (choice.kernel, choice.many_rows, choice.speedup) == (Fbgemm7Matmul, None, 5)
    assert str(choice) == "fbgemm, 7-bit inputs, 5.0 times float32's speed"


def test_more_accurate_of_two_equally_fast_kernels_is_chosen(measured):
    measured(100, int_mm=(21, 0), fbgemm7=(20, 0))
    assert choose_kernel(8, 768).kernel is IntMatmul


def test_weights_are_expanded_for_many_rows_where_it_is_faster(measured):
    measured(100, expand=(30.0, 8.0), int_mm=(20, 60))
    choice = choose_kernel(8, 768)
    assert (choice.kernel, choice.many_rows, choice.speedup) == (
        IntMatmul,
        torch.bfloat16,
        100 / 28,
    )


def test_quantized_is_never_slower_than_float32(measured):
    measured(32, int_mm=(60, 20))
    choice = choose_kernel(8, 768)
    assert choice.kernel is Expanded
    assert (
        str(choice)
        == "expanded to float32: the fastest 8-bit product here, int_mm, has 0.4 times its speed"
    )
    measured(30)
    assert (
        str(choose_kernel(8, 768))
        == "expanded to float32: no 8-bit product of this torch works here"
    )


def test_narrow_matrix_takes_the_first_kernel_without_a_trial(measured, monkeypatch):
    measured(1, int_mm=(60, 20), fbgemm=(1, 1))
    monkeypatch.setattr(kernel_choice, "kernel_seconds", lambda *_: pytest.fail("timed"))
    assert choose_kernel(8, 64).kernel is IntMatmul


@pytest.mark.parametrize("bits", [8, 4])
def test_trial_times_each_usable_kernel_for_tokens_and_prompts(bits, monkeypatch, tmp_path):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path))
    monkeypatch.setattr(packed_matmul, "MAX_TRIAL_COPIES", 1)
    names = kernel_choice.usable(bits)
    wanted = {*names, *(f"{name}, prompt" for name in names), *kernel_choice.MANY_ROW_DTYPES}
    assert set(kernel_seconds(bits, 32)) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
def test_many_rows_use_the_expanded_matrix_from_a_number_of_rows_on(bits, dtype, monkeypatch):
    monkeypatch.setattr(kernel_choice, "MANY_ROW_DTYPES", {"expand": dtype})
    weight = random_weight(bits, 40, 64, torch.Generator().manual_seed(0))
    layer = QuantizedLinear(weight.qweight, weight.scale, torch.randn(40))
    choice = choose_kernel(bits, 40)
    layer.prepare()
    layer._choice = kernel_choice.KernelChoice(choice.kernel, choice.name, dtype, None)
    x = torch.randn(MANY_ROWS, 64)
    assert torch.equal(layer(x), linear_expanded(x, weight, layer.bias, dtype))
    assert torch.equal(layer(x[1:]), layer._kernel(x[1:], layer.bias))
    error = (layer(x) - (x @ layer.weight.T + layer.bias)).abs() / (x.abs() @ layer.weight.abs().T)
    assert error.max() < (1e-5 if dtype == torch.float32 else 2**-7)


@pytest.mark.parametrize("quantized", [to_int8, to_int4])
def test_layer_chooses_its_kernel_again_after_to(quantized):
    layer = QuantizedLinear(*quantized(torch.randn(40, 64)))
    layer(torch.randn(1, 64))
    assert layer.memory_ranges() or layer._choice.name.startswith("fbgemm")
    assert layer.to(torch.float32)._kernel is None
