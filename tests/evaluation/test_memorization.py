"""Common runs equal a plain search, and windows are counted correctly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.evaluation.memorization import (
    SuffixIndex,
    continuations,
    overlap,
    sample_passages,
    suffix_array,
)
from llm_scratch.generation.decode import generate
from llm_scratch.model.gpt import GPTModel


def contains(text: list[int], run: list[int]) -> bool:
    return any(text[i : i + len(run)] == run for i in range(len(text) - len(run) + 1))


def searched(text: list[int], row: list[int], at: int) -> int:
    """The length of the longest match of row[at:] in the text, by plain search."""
    length = 0
    while at + length < len(row) and contains(text, row[at : at + length + 1]):
        length += 1
    return length


@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 257])
@pytest.mark.parametrize("n_vocab", [1, 2, 5, 1000])
def test_suffix_array_equals_sorted_suffixes(n, n_vocab):
    ids = np.random.default_rng(n).integers(0, n_vocab, n).tolist()
    assert suffix_array(ids).tolist() == sorted(range(n), key=lambda i: ids[i:])


def test_suffix_array_of_a_repeated_text():
    ids = np.random.default_rng(0).integers(0, 50, 300).tolist() * 2
    assert suffix_array(ids).tolist() == sorted(range(600), key=lambda i: ids[i:])


@pytest.mark.parametrize("n_vocab", [1, 2, 4, 30])
@pytest.mark.parametrize("n", [1, 5, 200])
def test_matches_are_those_of_a_plain_search(n, n_vocab):
    rng = np.random.default_rng(n + n_vocab)
    text = rng.integers(0, n_vocab, n).tolist()
    rows = [rng.integers(0, n_vocab + 1, size).tolist() for size in (0, 1, 30, 7)] + [
        text[n // 2 :],
        text,
    ]
    got = [found.tolist() for found in SuffixIndex(text).matches(rows)]
    assert got == [[searched(text, row, at) for at in range(len(row))] for row in rows]


def test_matches_do_not_cross_rows():
    assert [found.tolist() for found in SuffixIndex([1, 2, 3, 4]).matches([[1, 2], [3, 4]])] == [
        [2, 1],
        [2, 1],
    ]


def test_overlap_counts_windows():
    index = SuffixIndex([9, 1, 2, 3, 4, 5, 9, 6, 7])
    found = overlap(index, [[1, 2, 3, 8, 6, 7], [2, 3, 4, 5], [7]], window=2)
    assert found.run == (2, 3, 4, 5)
    assert (found.n_windows, found.n_found) == (5 + 3, 3 + 3)
    assert found.share == 6 / 8


def test_overlap_is_full_for_training_text_and_zero_for_other_text():
    text = np.random.default_rng(1).integers(0, 40, 500)
    index = SuffixIndex(text)
    assert overlap(index, [text[30:130], text[200:290]]).share == 1.0
    strange = overlap(index, [np.full(50, 41)])
    assert (strange.share, strange.run) == (0.0, ())


def test_overlap_share_is_nan_without_a_window():
    found = overlap(SuffixIndex([1, 2, 3]), [[1, 2], []], window=3)
    assert math.isnan(found.share)
    assert math.isnan(found.stderr)
    assert found.longest == 2
    assert overlap(SuffixIndex([1]), []).longest == 0


def test_overlap_stderr_equals_the_spread_of_repeated_samples():
    rng = np.random.default_rng(0)
    text = rng.integers(0, 30, 2000)
    index = SuffixIndex(text)
    shares, errors = [], []
    for _ in range(60):
        copied = rng.integers(0, 3, 40) == 0  # a row occurs in the text completely or not at all
        rows = [
            text[at : at + 30] if copy else np.full(30, 31)
            for copy, at in zip(copied, rng.integers(0, 1900, 40), strict=True)
        ]
        found = overlap(index, rows)
        shares.append(found.share)
        errors.append(found.stderr)
    assert np.mean(errors) == pytest.approx(
        np.std(shares), rel=0.3
    )  # 60 draws determine a spread to about 9 %


def test_passages_of_documents_are_their_beginnings():
    ids = [0, 5, 6, 7, 8, 0, 1, 0, 2, 3, 4, 0]
    got = sample_passages(ids, 9, 4, start_id=0, seed=1, min_tokens=3)
    assert sorted(row.tolist() for row in got) == [[0, 2, 3, 4], [0, 5, 6, 7]]
    assert len(sample_passages(ids, 1, 4, start_id=0, seed=1, min_tokens=3)) == 1


def test_passages_occur_in_the_text_and_depend_on_the_seed():
    ids = np.arange(100)
    rows = sample_passages(ids, 5, 10, None, seed=3)
    assert all((np.diff(row) == 1).all() and len(row) == 10 for row in rows)
    assert [row[0] for row in rows] == [row[0] for row in sample_passages(ids, 5, 10, None, seed=3)]
    assert [row[0] for row in rows] != [row[0] for row in sample_passages(ids, 5, 10, None, seed=4)]
    assert sample_passages(ids, 1, 1000, None, seed=0)[0].tolist() == ids.tolist()


@pytest.mark.parametrize("start_id", [None, 0])
def test_sample_passages_fails_without_a_passage(start_id):
    with pytest.raises(UserError, match="no passage of 30 tokens in a text of 3"):
        sample_passages([0, 1, 2], 4, 50, start_id, seed=0, min_tokens=30)


def test_memorization_rejects_invalid_values():
    with pytest.raises(UserError, match="the training text is empty"):
        SuffixIndex([])
    with pytest.raises(UserError, match="window: 0 is out of range"):
        overlap(SuffixIndex([1]), [[1]], window=0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(
        GPTConfig(vocab_size=12, context_length=16, emb_dim=8, n_heads=2, n_layers=1)
    ).eval()


def test_continuations_equal_generate(model):
    prompts = [[1, 2, 3], [4, 5, 6]] * 17  # more than a batch
    rows = continuations(model, prompts, 20, 0.0, seed=0)
    assert rows == generate(model, torch.tensor(prompts), 20)[:, 3:].tolist()
    drawn = continuations(model, prompts, 8, 1.0, seed=5)
    assert (
        drawn
        == continuations(model, prompts, 8, 1.0, seed=5)
        != continuations(model, prompts, 8, 1.0, seed=6)
    )
    assert drawn[33] == continuations(model, prompts[33:], 8, 1.0, seed=5 + 33)[0]


def test_continuations_end_at_end_of_text(model):
    free = continuations(model, [[1, 2]], 40, 1.0, seed=0)[0]
    model.start_id = free[7]
    assert continuations(model, [[1, 2]], 40, 1.0, seed=0)[0] == free[: free.index(free[7])]


def test_passages_of_a_text_without_the_start_token_begin_with_it():
    """As the rows of a run that started from such a model do."""
    rows = sample_passages(np.arange(100), 5, 10, start_id=200, seed=3)
    assert all(row[0] == 200 and (np.diff(row[1:]) == 1).all() and len(row) == 10 for row in rows)
    assert len({int(row[1]) for row in rows}) > 1
    assert {row.dtype.kind for row in [*rows, *sample_passages(np.arange(9), 5, 3, None, 0)]} == {
        "i"
    }
