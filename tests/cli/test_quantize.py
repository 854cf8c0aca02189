"""`quantize` writes a run and measures the loss before and after.

An error writes nothing.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from llm_scratch import loading
from llm_scratch.errors import UserError
from llm_scratch.hardware.device import DeviceChoice
from llm_scratch.loading import load
from llm_scratch.model.quantized import QuantizedLinear, quantize
from llm_scratch.run_directory import find_run


@pytest.fixture
def wide(llm, tiny):
    """A tiny run whose rows divide into groups."""
    assert llm(*tiny, "--model.emb-dim", "32", "--out", "wide").code == 0
    return "wide"


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_run_works_in_every_command(bits, llm, wide):
    result = llm("quantize", wide, "--bits", bits)
    assert result.code == 0, result.err
    assert re.search(r"bits per byte +\d\.\d{4} +\d\.\d{4} +[+-]\d+\.\d\d%", result.out)
    assert re.search(r"size +\d+\.?\d* KiB +\d+\.?\d* KiB +-\d\d%", result.out), (
        "a small model is not 0.0 MB"
    )
    few, tokenizer = load(f"wide-int{bits}")
    assert all(part.bits == bits for part in few.modules() if isinstance(part, QuantizedLinear))
    want, _ = load(wide)
    ids = torch.tensor([tokenizer.encode("the hen sat")])
    assert torch.equal(few(ids), quantize(want, bits)(ids)), "the measured model is the written one"
    assert find_run(Path(f"wide-int{bits}")).bits == bits
    for verb in (
        ("generate", f"wide-int{bits}", "the", "--max-tokens", 5, "--seed", 1),
        ("evaluate", f"wide-int{bits}"),
    ):
        assert llm(*verb).code == 0


def test_generate_with_compile_reports_a_missing_compiler(llm, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = llm("generate", trained, "the", "--compile")
    assert (
        result.code,
        "need a C++ compiler, and no-such-compiler is not installed" in result.err,
    ) == (2, True)


@pytest.mark.parametrize(
    "words", [("--samples", 2), ("--decoder", "beam"), ("--decoder", "lookup")]
)
def test_compile_is_refused_when_packed_matrices_are_faster(llm, trained, words):
    result = llm("generate", trained, "the", "--max-tokens", 5, "--compile", *words)
    assert (result.code, "not compiled: for several tokens at a time" in result.err) == (
        0,
        True,
    ), result.err


def test_compile_needs_a_cpu(trained, monkeypatch):
    monkeypatch.setattr(
        loading, "choose_device", lambda wanted: DeviceChoice("cuda:1", "as requested")
    )
    with pytest.raises(
        UserError,
        match=(
            "compile: only CPUs are supported, and this is cuda:1;"
            " leave it out, or use the device cpu"
        ),
    ):
        loading.load_for_inference(trained, "cuda:1", compile=True)


@pytest.mark.slow  # compiling takes half a minute
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="needs g++, with which torch compiles for a CPU"
)
@pytest.mark.parametrize("bits", [32, 8])
def test_compiled_generation_is_equal_and_cached(llm, wide, bits, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    if bits == 8:
        assert llm("quantize", wide).code == 0
    words = (
        "generate",
        wide if bits == 32 else "wide-int8",
        "the",
        "--max-tokens",
        20,
        "--temperature",
        0,
    )
    plain, compiled = llm(*words), llm(*words, "--compile")
    assert (compiled.code, compiled.out) == (0, plain.out)
    assert ", compiled]" in compiled.err
    assert compiled.err.startswith(
        "Compiling the generation step takes 0.5 to 3 minutes, once per model shape.\n"
    )
    assert len(list((tmp_path / "cache" / "steps").glob("*.so"))) == 1
    monkeypatch.setattr(torch._inductor, "aot_compile", None)
    again = llm(*words, "--compile")
    assert (again.out, "Compiling" in again.err) == (plain.out, False)


def test_quantize_rejects_unsupported_models_and_writes_nothing(llm, trained, wide, tmp_path):
    assert (
        "trf_blocks.0.att.W_query: rows of 16 values"
        in llm("quantize", trained, "--bits", 4, "--out", "none").err
    )
    assert not (tmp_path / "none").exists()
    assert llm("quantize", wide).code == 0
    again = llm("quantize", wide)
    assert (again.code, "exists and is not empty" in again.err) == (2, True)
    assert "already quantized to 8 bits" in llm("quantize", "wide-int8", "--out", "none").err
    assert not (tmp_path / "none").exists()


def test_quantized_model_cannot_be_trained(llm, tiny):
    result = llm(*tiny, "--model.bits", 8, "--model.emb-dim", 32)
    assert result.code == 2
    assert "model.bits" in result.err
