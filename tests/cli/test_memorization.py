"""`memorization` reports a model that repeats its training text, and only that."""

from __future__ import annotations

import re
import shutil

import pytest

from llm_scratch.cli.commands.memorization import summary
from llm_scratch.data.corpus import prepare
from llm_scratch.evaluation.memorization import (
    Overlap,
    SuffixIndex,
    continuations,
    overlap,
    sample_passages,
)
from llm_scratch.loading import load
from llm_scratch.run_directory import find_run

SMALL = ("--samples", 6, "--max-tokens", 20, "--window", 3, "--prefix-tokens", 2, "--device", "cpu")


def test_memorization_table_equals_the_library_functions(llm, trained):
    model, tokenizer = load(trained)
    corpus = prepare(find_run(trained).config, tokenizer)
    result = llm("memorization", trained, *SMALL)
    assert result.code == 0, result.err
    index = SuffixIndex(corpus.train)
    for name, ids in (("validation", corpus.val), ("training", corpus.train)):
        given = [row[:2] for row in sample_passages(ids, 6, 22, None, 0)]
        found = overlap(index, continuations(model, given, 20, 1.0, 0, tokenizer.n_vocab), 3)
        row = (
            rf"^after {name} text +6 +{found.longest} tokens +{found.n_windows} +{found.share:.1%}"
            rf" ± {found.stderr:.1%}"
        )
        assert re.search(row, result.out, re.M)
    # the text repeats one line, so the whole validation text occurs in the training text
    assert re.search(r"^validation text +6 +20 tokens +108 +100\.0% ± 0\.0%", result.out, re.M)
    assert f"{len(corpus.train):,} tokens" in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_memorization_table_repeats_with_the_seed(llm, trained):
    assert llm("memorization", trained, *SMALL).out == llm("memorization", trained, *SMALL).out


def row(share: float, stderr: float = 0.01, longest: int = 9) -> Overlap:
    return Overlap((1,) * longest, 1000, int(1000 * share), stderr)


@pytest.mark.parametrize(
    ("validation", "training", "begins"),
    [
        (row(0.02), row(0.03), "No memorization"),
        (row(0.05), row(0.06), "No memorization"),  # higher, and within the error
        (
            row(0.02),
            row(0.03, longest=19),
            (
                "The model repeats training text occasionally: its longest run is 19 tokens;"
                " the baseline is 9."
            ),
        ),
        (
            row(0.02),
            row(0.40),
            "The model repeats training text after prefixes of its training text: 40.0%",
        ),
        (
            row(0.30),
            row(0.40),
            "The model repeats training text even after prefixes it was not trained on: 30.0%",
        ),
        (row(0.30, float("nan")), row(0.40), "Too little text"),
    ],
)
def test_summary_compares_output_with_the_baseline(validation, training, begins):
    assert summary([validation, training, row(0.02)]).startswith(begins)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--samples", 0), "--samples: 0 is out of range; give a whole number from 1 to 1000000"),
        (
            ("--max-tokens", 5),
            "--max-tokens=5 is shorter than --window=20; give --max-tokens 20 or more",
        ),
    ],
)
def test_memorization_refuses_settings_out_of_range(words, says, llm, trained):
    result = llm("memorization", trained, *words)
    assert (result.code, result.err) == (2, f"llm-scratch: {says}\n")


def test_memorization_needs_a_run_that_records_its_text(llm, trained, tmp_path):
    checkpoint = trained / "ckpt" / (trained / "ckpt" / "latest").read_text().strip()
    alone = shutil.copytree(checkpoint, tmp_path / "alone")
    assert llm("memorization", checkpoint, *SMALL).code == 0  # beside its run, it is known
    result = llm("memorization", alone)
    assert result.code == 2
    assert "its training text is not recorded; use a run directory" in result.err


def test_memorization_reports_a_prefix_longer_than_the_context(llm, trained):
    result = llm(
        "memorization",
        trained,
        "--samples",
        2,
        "--prefix-tokens",
        20,
        "--max-tokens",
        5,
        "--window",
        3,
    )
    assert result.code == 0, result.err
    assert result.err.count("tokens and the model sees 16: the first") == 1
