"""`export hf` writes a folder of transformers, `export gguf` a file of llama.cpp."""

import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "transformers", reason="transformers reads what is written; install the hf extra"
)


def test_export_writes_compares_and_loads_a_run(llm, trained):
    result = llm("export", "hf", trained, "out")
    assert (result.code, result.err) == (0, "")
    assert "transformers reads the same model: logits differ by at most" in result.out
    assert "ids of 1,000 texts are equal" in result.out
    words = ["the hen", "--max-tokens", "9", "--seed", "1", "--device", "cpu"]
    assert llm("generate", "out", *words).out == llm("generate", trained, *words).out
    again = llm("export", "hf", trained, "out")
    assert again.code == 2
    assert "out is not empty" in again.err


def test_export_without_transformers_reports_no_comparison(llm, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = llm("export", "hf", trained, "out")
    assert result.code == 0
    assert (
        "not compared: transformers is not installed (pip install transformers tokenizers"
        " huggingface_hub)" in result.out
    )


def test_export_gguf_writes_reads_back_and_names_the_next_command(llm, tmp_path):
    pytest.importorskip("gguf", reason="writes the file; install the gguf extra")
    model = Path(__file__).parents[1] / "interop" / "tiny_gpt2"
    result = llm("export", "gguf", model, "out.gguf", "--type", "q8_0")
    assert (result.code, result.err) == (0, "")
    assert "ollama create out -f out.Modelfile" in result.out
    assert "ids of 1,000 texts are equal" in result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.Modelfile", "out.gguf"]
    assert llm("generate", "out.gguf", "the", "--max-tokens", "3", "--device", "cpu").code == 0
    again = llm("export", "gguf", model, "out.gguf")
    assert (again.code, again.out) == (2, "")
    assert "out.gguf exists; choose another name" in again.err
