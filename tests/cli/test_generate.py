"""`generate`: streamed, seeded, with a prompt from arguments, a file or standard input."""

from __future__ import annotations

import io
import re
import sys

import pytest
import torch

from llm_scratch.generation.decode import stream
from llm_scratch.generation.detokenizer import TextChunk
from llm_scratch.loading import load
from llm_scratch.model.gpt import GPTModel

cache = GPTModel.new_cache


def endless(run):
    """Arguments that prevent an end of text."""
    return ["--logit-bias", f"{load(run)[1].eot_token}=-1000"]


def test_generate_equals_stream(llm, trained):
    model, tokenizer = load(trained)
    want = "the hen" + "".join(
        stream(
            model,
            tokenizer,
            "the hen",
            max_new_tokens=20,
            temperature=0.5,
            top_k=5,
            top_p=0.9,
            seed=3,
        )
    )
    words = [
        "--max-tokens",
        "20",
        "--temperature",
        "0.5",
        "--top-k",
        "5",
        "--top-p",
        "0.9",
        "--seed",
        "3",
        "--device",
        "cpu",
    ]
    result = llm("generate", trained, "the hen", *words)
    assert (result.code, result.out) == (0, want + "\n")
    assert re.fullmatch(
        r"\n\[20 tokens in \d+\.\d s, \d+ tokens/s, the first after \d+\.\d{3} s, seed"
        r" 3\]\n\[(.+)\]\n",
        result.err,
    )
    assert (
        "as requested), float32 (a model 16 wide is too small to gain from fewer bits)"
        in result.err
    )


def test_generate_uses_and_prints_the_requested_dtype(llm, trained, monkeypatch):
    seen = []
    monkeypatch.setattr(
        GPTModel,
        "new_cache",
        lambda self, n: seen.append(self.tok_emb.weight.dtype) or cache(self, n),
    )
    words = ["generate", trained, "the", "--max-tokens", "3", "--seed", "1", "--device", "cpu"]
    for dtype in ("bfloat16", "float16", "float32"):
        result = llm(*words, "--dtype", dtype)
        assert result.code == 0
        assert f"{dtype} (as requested" in result.err
        assert seen[-1] == getattr(torch, dtype)
    lookup = ["--decoder", "speculative", "--draft", trained, "--dtype", "bfloat16"]
    seen.clear()
    assert llm(*words, *lookup).code == 0
    assert seen == [torch.bfloat16] * 2
    assert "--dtype is 'int8'" in llm(*words, "--dtype", "int8").err


def test_generate_separates_samples_by_a_blank_line(llm, trained):
    words = [
        "generate",
        trained,
        "the",
        "fox",
        "--samples",
        "2",
        "--max-tokens",
        "12",
        "--seed",
        "1",
        "--temperature",
        "1.5",
    ]
    result = llm(*words)
    texts = result.out.removesuffix("\n").split("\n\n\n")
    assert [text[:3] for text in texts] == ["the", "the", "fox", "fox"]
    assert len(set(texts)) == 4
    assert (
        llm(
            "generate",
            trained,
            "the",
            "fox",
            "--samples",
            "2",
            "--max-tokens",
            "12",
            "--seed",
            "1",
            "--temperature",
            "1.5",
        ).out
        == result.out
    )


def test_generate_reads_the_prompt_from_standard_input(llm, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the hen\n")))
    assert llm("generate", trained, "-", "--max-tokens", "0", "--seed", "1").out == "the hen\n"


def test_generate_prints_a_random_seed_by_default(llm, trained):
    result = llm("generate", trained, "the", "--max-tokens", "8", "--temperature", "2")
    seed = re.search(r"seed (\d+)", result.err)[1]
    assert (
        llm(
            "generate", trained, "the", "--max-tokens", "8", "--temperature", "2", "--seed", seed
        ).out
        == result.out
    )


def test_generate_without_a_prompt_starts_a_new_text(llm, trained):
    assert llm("generate", trained, "--max-tokens", "5", "--seed", "1").code == 0


def test_generate_finds_a_run_by_name(llm, trained, tmp_path):
    (tmp_path / "runs").mkdir()
    trained.rename(tmp_path / "runs" / "2026-07-01-shakespeare")
    assert llm("generate", "shakespeare", "the", "--max-tokens", "1").code == 0


def test_batched_sample_equals_the_text_of_its_seed(llm, trained):
    words = ["--max-tokens", "15", "--temperature", "1.2"]
    together = (
        llm("generate", trained, "the", "--samples", "3", "--seed", "5", *words)
        .out.removesuffix("\n")
        .split("\n\n\n")
    )
    assert together == [
        llm("generate", trained, "the", "--seed", 5 + n, *words).out.removesuffix("\n")
        for n in range(3)
    ]


def test_generate_reads_the_prompt_from_a_file(llm, trained, tmp_path):
    (tmp_path / "prompt.txt").write_text("the red\nhen\n")
    assert (
        llm("generate", trained, "--file", "prompt.txt", "--max-tokens", "0", "--seed", "1").out
        == "the red\nhen\n"
    )
    assert (
        llm("generate", trained, "fox", "--file", "prompt.txt", "--max-tokens", "0").out
        == "fox\n\n\nthe red\nhen\n"
    )
    for name, wrong in (
        ("none.txt", "No such file"),
        ("empty.txt", "empty; it must"),
        ("bytes.txt", "not UTF-8"),
    ):
        (tmp_path / "empty.txt").touch()
        (tmp_path / "bytes.txt").write_bytes(b"\xff\x00")
        result = llm("generate", trained, "--file", name)
        assert result.code == 3
        assert wrong in result.err


def test_stop_string_ends_the_text(llm, trained):
    words = [
        "generate",
        trained,
        "the",
        "--max-tokens",
        "60",
        "--seed",
        "2",
        "--temperature",
        "1.3",
        *endless(trained),
    ]
    whole = llm(*words).out
    letter = whole[9]
    assert llm(*words, "--stop", letter).out.removesuffix("\n") == whole[: whole.index(letter, 3)]


def test_probabilities_are_printed_without_colors(llm, trained):
    words = ["generate", trained, "the", "--max-tokens", "9", "--seed", "2", *endless(trained)]
    assert re.sub(r"\{\d+%\}", "", llm(*words, "--show-probs").out) == llm(*words).out
    assert len(re.findall(r"\{\d+%\}", llm(*words, "--show-probs").out)) == 9


def test_full_context_slides_or_stops(llm, trained):
    words = ["generate", trained, "the", "--max-tokens", "40", "--seed", "1", *endless(trained)]
    slid, stopped = (llm(*words, "--context-overflow", overflow) for overflow in ("slide", "stop"))
    assert "[40 tokens" in slid.err
    assert "[14 tokens" in stopped.err
    assert slid.out.startswith(stopped.out.removesuffix("\n"))


@pytest.mark.parametrize("screen", [True, False])
def test_generate_prints_no_control_characters_on_a_terminal(screen, llm, trained, monkeypatch):
    pieces = [(0, TextChunk("a\x1b[2J")), (0, TextChunk("\nb"))]
    monkeypatch.setattr("llm_scratch.generation.decode.stream_batch", lambda *a, **k: iter(pieces))
    monkeypatch.setattr("llm_scratch.cli.token_printer.on_terminal", lambda: screen)
    monkeypatch.setenv("NO_COLOR", "1")
    assert llm("generate", trained, "the").out == (
        "thea\ufffd[2J\nb\n" if screen else "thea\x1b[2J\nb\n"
    )


def test_generate_rejects_bad_settings_before_output(llm, trained):
    for words, message in (
        (["--top-k", "0"], "--top-k: 0 is out"),
        (["--samples", "0"], "--samples: 0 is out"),
        (["--logit-bias", "9999=1"], "token 9999"),
    ):
        result = llm("generate", trained, "the", *words)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
