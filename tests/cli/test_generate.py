"""Text from a run: streamed, seeded, from words or standard input; speed on stderr."""

from __future__ import annotations

import io
import re
import sys

import pytest

from llm_scratch.generation.decode import stream
from llm_scratch.loading import load


def test_the_text_is_that_of_stream(llm, trained):
    model, tokenizer = load(trained)
    want = "the hen" + "".join(stream(model, tokenizer, "the hen", max_new_tokens=20, temperature=0.5, top_k=5, top_p=0.9, seed=3))
    words = ["--tokens", "20", "--temperature", "0.5", "--top-k", "5", "--top-p", "0.9", "--seed", "3", "--device", "cpu"]
    result = llm("generate", trained, "the hen", *words)
    assert (result.code, result.out) == (0, want + "\n")
    assert re.fullmatch(r"\n\[\d+ tokens in \d+\.\d s, \d+ tokens/s, seed 3\]\n", result.err)


def test_prompts_and_samples_have_a_blank_line_between_and_differ(llm, trained):
    words = ["generate", trained, "the", "fox", "--samples", "2", "--tokens", "12", "--seed", "1", "--temperature", "1.5"]
    result = llm(*words)
    texts = result.out.removesuffix("\n").split("\n\n\n")
    assert [text[:3] for text in texts] == ["the", "the", "fox", "fox"]
    assert len(set(texts)) == 4
    assert (
        llm("generate", trained, "the", "fox", "--samples", "2", "--tokens", "12", "--seed", "1", "--temperature", "1.5").out == result.out
    )


def test_standard_input(llm, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the hen\n")))
    assert llm("generate", trained, "-", "--tokens", "0", "--seed", "1").out == "the hen\n"


def test_without_a_seed_it_is_drawn_and_told(llm, trained):
    result = llm("generate", trained, "the", "--tokens", "8", "--temperature", "2")
    seed = re.search(r"seed (\d+)", result.err)[1]
    assert llm("generate", trained, "the", "--tokens", "8", "--temperature", "2", "--seed", seed).out == result.out


def test_without_a_prompt_the_model_begins_by_itself(llm, trained):
    assert llm("generate", trained, "--tokens", "5", "--seed", "1").code == 0


def test_a_run_is_found_by_its_name_in_runs(llm, trained, tmp_path):
    (tmp_path / "runs").mkdir()
    trained.rename(tmp_path / "runs" / "2026-07-01-shakespeare")
    assert llm("generate", "shakespeare", "the", "--tokens", "1").code == 0


@pytest.mark.parametrize("screen", [True, False])
def test_a_terminal_gets_no_control_characters(screen, llm, trained, monkeypatch):
    monkeypatch.setattr("llm_scratch.generation.decode.stream", lambda *a, **k: iter(["a\x1b[2J", "\nb"]))
    monkeypatch.setattr("llm_scratch.cli.generate.on_terminal", lambda: screen)
    monkeypatch.setenv("NO_COLOR", "1")
    assert llm("generate", trained, "the").out == ("thea\ufffd[2J\nb\n" if screen else "thea\x1b[2J\nb\n")
