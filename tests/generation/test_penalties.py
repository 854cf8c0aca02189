"""Penalties: equal to transformers' logits processors, padding does not count, errors."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation.penalties import (
    PENALTIES,
    counts,
    logit_bias,
    no_repeat_ngram_size,
    repetition_penalty,
)
from llm_scratch.generation.sampling import next_token

B, V, S = 4, 23, 30


@pytest.fixture
def logits():
    return torch.randn(B, V, generator=torch.Generator().manual_seed(7)) * 3


@pytest.fixture
def ids():
    return torch.randint(0, 5, (B, S), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip(
        "transformers.generation.logits_process", reason="needs the extra `hf`"
    )


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_repetition_penalty_equals_transformers(logits, ids, theirs, penalty):
    assert torch.equal(
        repetition_penalty(logits, penalty, ids),
        theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits),
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 29, 30, 31])
def test_no_repeat_ngram_size_equals_transformers(logits, ids, theirs, n):
    ours = no_repeat_ngram_size(logits, n, ids)
    assert torch.equal(ours, theirs.NoRepeatNGramLogitsProcessor(n)(ids, logits))
    assert n > 3 or ours.isinf().any()


def test_logit_bias_equals_transformers(logits, ids, theirs):
    bias = {3: -100.0, 7: 2.5, 22: -1e6}
    want = theirs.SequenceBiasLogitsProcessor({(token,): value for token, value in bias.items()})(
        ids, logits
    )
    assert torch.equal(logit_bias(logits, bias), want)
    assert torch.equal(logit_bias(logits, {}), logits)


def test_presence_and_frequency_follow_their_formula(logits, ids):
    """OpenAI: score - count * frequency_penalty - (count > 0) * presence_penalty."""
    for row in range(B):
        for token in range(V):
            n = ids[row].tolist().count(token)
            assert PENALTIES["presence_penalty"](logits, 0.7, ids)[row, token] == logits[
                row, token
            ] - 0.7 * (n > 0)
            assert (
                PENALTIES["frequency_penalty"](logits, 0.25, ids)[row, token]
                == logits[row, token] - 0.25 * n
            )


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition_penalty", 1.3), ("no_repeat_ngram_size", 2), ("presence_penalty", 1.0)],
)
def test_penalties_ignore_padding(logits, ids, name, value):
    padded = torch.cat([torch.full((B, 4), -1), ids[:, :6]], 1)
    assert torch.equal(
        PENALTIES[name](logits, value, padded), PENALTIES[name](logits, value, ids[:, :6])
    )


def test_penalties_ignore_ids_without_a_logit(logits):
    """Use a vocabulary that is rounded up: the prompt may hold ids beyond the processed logits."""
    assert counts(torch.tensor([[1, 40, 1, -1]]), 4).tolist() == [[0, 2, 0, 0]]
    assert torch.equal(no_repeat_ngram_size(logits, 2, torch.full((B, 3), 40)), logits)


def test_penalties_act_at_temperature_zero(logits, ids):
    best = next_token(logits, temperature=0)
    ids = torch.cat([ids, best], 1)
    assert not torch.equal(next_token(logits, ids=ids, temperature=0, no_repeat_ngram_size=1), best)


def test_penalties_act_in_the_order_of_their_table():
    assert list(PENALTIES) == [
        "logit_bias",
        "repetition_penalty",
        "no_repeat_ngram_size",
        "presence_penalty",
        "frequency_penalty",
    ]


def test_penalty_errors_name_settings_out_of_range(logits, ids):
    with pytest.raises(UserError, match="repetition_penalty: 0 is out"):
        repetition_penalty(logits, 0, ids)
    with pytest.raises(UserError, match="no_repeat_ngram_size: 0 is out"):
        no_repeat_ngram_size(logits, 0, ids)
    with pytest.raises(UserError, match="no token 23 in the vocabulary; use ids from 0 to 22"):
        logit_bias(logits, {23: 1.0})
