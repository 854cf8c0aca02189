"""`export hf` writes a folder of transformers."""

import sys

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


def test_export_without_transformers_says_that_nothing_was_compared(llm, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = llm("export", "hf", trained, "out")
    assert result.code == 0
    assert (
        "not compared: transformers is not installed (pip install transformers tokenizers"
        " huggingface_hub)" in result.out
    )
