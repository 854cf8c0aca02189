"""Decoding strategies from the command line give the texts of the package.

A flag that a strategy would ignore is an error.
"""

from __future__ import annotations

import re

import pytest
import torch

from llm_scratch.generation.beam import beam_search
from llm_scratch.generation.decode import encode_prompt
from llm_scratch.loading import load

WORDS = ["the hen", "--max-tokens", "8"]


def test_beam_prints_the_best_texts(llm, trained):
    result = llm("generate", trained, *WORDS, "--decoder", "beam", "--beams", "3", "--samples", "2")
    model, tokenizer = load(trained)
    idx = torch.tensor([encode_prompt(model, tokenizer, "the hen")])
    best = beam_search(model, idx, max_new_tokens=8, beams=3, n_best=2, n_vocab=tokenizer.n_vocab)
    assert result.out.removesuffix("\n").split("\n\n\n") == [
        "the hen" + tokenizer.decode(beam.ids) for beam in best
    ]
    assert "seed" not in result.err


@pytest.mark.parametrize("decoder", ["speculative", "lookup"])
def test_greedy_text_with_draft_tokens_equals_greedy(decoder, llm, trained):
    draft = ["--draft", trained] if decoder == "speculative" else []
    guessed = llm(
        "generate",
        trained,
        *WORDS,
        "--temperature",
        "0",
        "--decoder",
        decoder,
        "--draft-tokens",
        "3",
        *draft,
    )
    assert guessed.out == llm("generate", trained, *WORDS, "--temperature", "0").out
    assert re.search(r"\[8 tokens .* seed \d+\]", guessed.err)


def test_samples_with_draft_tokens_repeat_by_seed(llm, trained):
    words = [
        "generate",
        trained,
        *WORDS,
        "--decoder",
        "lookup",
        "--samples",
        "2",
        "--seed",
        "4",
        "--temperature",
        "2",
    ]
    first = llm(*words).out
    assert len(set(first.removesuffix("\n").split("\n\n\n"))) == 2
    assert llm(*words).out == first


def test_contrastive_with_one_candidate_is_greedy(llm, trained):
    one = llm("generate", trained, *WORDS, "--decoder", "contrastive", "--candidates", "1").out
    assert one == llm("generate", trained, *WORDS, "--temperature", "0").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--decoder", "beam", "--top-k", "3"],
            "--top-k has no effect with --decoder beam; it applies to sample, speculative, lookup",
        ),
        (["--decoder", "beam", "--seed", "3"], "--seed has no effect with --decoder beam"),
        (
            ["--decoder", "beam", "--context-overflow", "slide"],
            "--context-overflow has no effect with --decoder beam",
        ),
        (["--beams", "3"], "--beams has no effect with --decoder sample; it applies to beam"),
        (
            ["--decoder", "lookup", "--mirostat", "3"],
            "--mirostat has no effect with --decoder lookup",
        ),
        (["--decoder", "lookup", "--draft", "x"], "--draft has no effect with --decoder lookup"),
        (
            ["--decoder", "contrastive", "--samples", "2"],
            (
                "--samples has no effect with --decoder contrastive;"
                " it applies to sample, beam, speculative, lookup"
            ),
        ),
        (["--decoder", "speculative"], "needs a draft model; add --draft RUN"),
        (["--decoder", "greedy"], "--decoder is 'greedy'"),
    ],
)
def test_decoding_flag_without_effect_is_an_error(words, message, llm, trained):
    result = llm("generate", trained, "the", *words)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize(
    ("decoder", "context_overflow"),
    [
        ("beam", None),
        ("beam", "stop"),
        ("sample", "stop"),
        ("contrastive", "stop"),
        ("lookup", "stop"),
    ],
)
def test_prompt_that_fills_the_context_is_an_error(decoder, context_overflow, llm, trained):
    words = [
        "--decoder",
        decoder,
        *(["--context-overflow", context_overflow] if context_overflow else []),
    ]
    for n, code in ((16, 0), (17, 3)):
        result = llm("generate", trained, ("the hen " * 3)[:n], "--max-tokens", 3, *words)
        assert result.code == code
    assert result.out == ""
    assert "the prompt has 17 tokens" in result.err


@pytest.mark.parametrize("decoder", ["sample", "contrastive", "lookup"])
def test_long_prompt_slides_unless_context_overflow_is_stop(decoder, llm, trained):
    result = llm("generate", trained, "the hen " * 3, "--max-tokens", 3, "--decoder", decoder)
    assert result.code == 0
    assert re.search(r"\[[1-3] tokens in", result.err)


def test_constrained_text_matches_the_expression_or_schema(llm, trained, tmp_path):
    pytest.importorskip("llguidance", reason="needs the extra `constrain`")
    texts = llm(
        "generate",
        trained,
        "the ",
        "--regex",
        "[a-f]{3} hen",
        "--samples",
        "3",
        "--temperature",
        "2",
    ).out
    assert all(
        re.fullmatch("the [a-f]{3} hen", text) for text in texts.removesuffix("\n").split("\n\n\n")
    )
    (tmp_path / "schema.json").write_text('{"enum": ["hen", 1]}')
    result = llm("generate", trained, "the", "--json-schema", "schema.json")
    assert (result.code, result.out) == (3, "")
    assert "use a model whose vocabulary has the required characters" in result.err
    assert llm("generate", trained, "the", "--json-schema", "none.json").code == 3
