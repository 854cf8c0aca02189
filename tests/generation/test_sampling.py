"""Sampling: equal to transformers' logits processors, invariants of each sampler, errors."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation import sampling
from llm_scratch.generation.sampling import (
    SAMPLERS,
    TOY_LOGITS,
    TOY_VOCAB,
    eta_cutoff,
    greedy,
    min_p,
    next_token,
    print_sampled_tokens,
    process_logits,
    sample,
    softmax_with_temperature,
    temperature,
    top_k,
    top_p,
    typical_p,
)

B, V = 5, 311


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(B, V, generator=torch.Generator().manual_seed(7)) * 3


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip(
        "transformers.generation.logits_process", reason="needs the extra `hf`"
    )


@pytest.mark.parametrize("t", [0.1, 0.7, 1.0, 5.0])
def test_temperature_equals_transformers(logits, theirs, t):
    assert torch.equal(temperature(logits, t), theirs.TemperatureLogitsWarper(t)(None, logits))


@pytest.mark.parametrize("k", [1, 2, 50, V, V + 1000])
def test_top_k_equals_transformers(logits, theirs, k):
    assert torch.equal(top_k(logits, k), theirs.TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.001, 0.3, 0.9, 0.99, 1.0])
def test_top_p_equals_transformers(logits, theirs, p):
    assert torch.equal(top_p(logits, p), theirs.TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_min_p_equals_transformers(logits, theirs, p):
    assert torch.equal(min_p(logits, p), theirs.MinPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.9, 0.99])
def test_typical_p_equals_transformers(logits, theirs, p):
    assert torch.equal(typical_p(logits, p), theirs.TypicalLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("epsilon", [3e-4, 0.01, 0.5])
def test_eta_cutoff_equals_transformers(logits, theirs, epsilon):
    assert torch.equal(eta_cutoff(logits, epsilon), theirs.EtaLogitsWarper(epsilon)(None, logits))


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 3), ("top_p", 0.8), ("min_p", 0.3), ("typical_p", 0.7), ("eta_cutoff", 0.05)],
)
@pytest.mark.parametrize("row", ["ties", "forbidden", "one left", "all alike"])
def test_ties_and_forbidden_tokens_equal_transformers(theirs, name, value, row):
    inf = float("inf")
    rows = {
        "ties": [2.0, 1, 1, 1, 0, 2],
        "forbidden": [1.0, -inf, 3, -inf, 0, 0],
        "one left": [-inf] * 5 + [1.0],
        "all alike": [0.5] * 6,
    }
    theirs_of = {
        "top_k": theirs.TopKLogitsWarper,
        "top_p": theirs.TopPLogitsWarper,
        "min_p": theirs.MinPLogitsWarper,
        "typical_p": theirs.TypicalLogitsWarper,
        "eta_cutoff": theirs.EtaLogitsWarper,
    }
    logits = torch.tensor([rows[row]])
    ours, want = SAMPLERS[name](logits, value), theirs_of[name](value)(None, logits)
    if (name, row) == ("top_p", "ties") or (name, row) == (
        "top_p",
        "all alike",
    ):  # which of two equal logits is removed is unspecified
        assert torch.equal(ours.sort().values, want.sort().values)
    else:
        assert torch.equal(ours, want)


def test_list_of_generators_draws_each_row_as_if_alone(logits):
    together = sample(logits, [torch.Generator().manual_seed(s) for s in range(B)])
    for row in range(B):
        assert torch.equal(
            sample(logits[row : row + 1], torch.Generator().manual_seed(row)),
            together[row : row + 1],
        )


def test_samplers_act_in_the_order_of_transformers(logits, theirs):
    """Temperature before top-p; the opposite order keeps other tokens."""
    assert list(SAMPLERS) == ["temperature", "top_k", "top_p", "min_p", "typical_p", "eta_cutoff"]
    processed = logits
    for name, value in (("temperature", 2.0), ("top_k", 40), ("top_p", 0.6)):
        processed = SAMPLERS[name](processed, value)
    want = theirs.LogitsProcessorList(
        [
            theirs.TemperatureLogitsWarper(2.0),
            theirs.TopKLogitsWarper(40),
            theirs.TopPLogitsWarper(0.6),
        ]
    )(None, logits)
    assert torch.equal(processed, want)
    torch.manual_seed(5)
    ids = next_token(logits, top_p=0.6, temperature=2.0, top_k=40)
    torch.manual_seed(5)
    assert torch.equal(ids, torch.multinomial(want.softmax(-1), 1))


def test_top_k_applies_to_each_row_alone():
    """The notebooks compared one threshold per row with the whole batch.

    That raises an error or keeps the wrong tokens for B > 1.
    """
    rows = torch.tensor([[1.0, 2, 3, 4], [40, 30, 20, 10]])
    assert top_k(rows, 2).isinf().tolist() == [
        [True, True, False, False],
        [False, False, True, True],
    ]


def test_top_k_keeps_ties():
    assert top_k(torch.tensor([[1.0, 2, 2, 3]]), 2).isinf().tolist() == [
        [True, False, False, False]
    ]


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_top_p_keeps_the_smallest_set_that_holds_p(logits, p):
    probas = logits.softmax(-1)
    kept = ~top_p(logits, p).isinf()
    assert (((probas * kept).sum(-1)) >= p - 1e-6).all()
    without_the_worst = (probas * kept).sum(-1) - probas.masked_fill(~kept, 2).min(-1).values
    assert (without_the_worst < p).all()


def test_samplers_change_no_logits_in_place(logits):
    before = logits.clone()
    next_token(logits, temperature=0.5, top_k=3, top_p=0.5)
    assert torch.equal(logits, before)


def test_temperature_zero_takes_the_best_token_and_draws_nothing(logits):
    state = torch.get_rng_state()
    assert torch.equal(next_token(logits, temperature=0, top_k=5), greedy(logits))
    assert torch.equal(
        process_logits(logits, temperature=0, typical_p=0.1).softmax(-1).argmax(-1, keepdim=True),
        greedy(logits),
    )
    assert torch.equal(state, torch.get_rng_state())


def test_sample_frequencies_equal_the_probabilities():
    logits = torch.tensor([[0.1, 0.2, 0.7]]).log().expand(20_000, 3)
    draws = sample(logits, torch.Generator().manual_seed(0)).flatten().bincount() / 20_000
    torch.testing.assert_close(draws, torch.tensor([0.1, 0.2, 0.7]), atol=0.01, rtol=0)


def test_generator_repeats_the_draw_and_leaves_the_global_one_alone(logits):
    state = torch.get_rng_state()
    first, second = (sample(logits, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (B, 1)
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_half_precision_logits_can_be_sampled(logits):
    assert sample(top_p(top_k(logits.bfloat16(), 9), 0.9)).shape == (B, 1)


def test_custom_sampler_is_registered_by_one_line(logits, monkeypatch):
    monkeypatch.setitem(
        sampling.SAMPLERS,
        "only",
        lambda logits, i: torch.full_like(logits, -torch.inf).index_fill(
            -1, torch.tensor([i]), 0.0
        ),
    )
    assert next_token(logits, only=17).tolist() == [[17]] * B


def test_every_sampler_keeps_a_token_and_changes_no_kept_logit(logits):
    for name, value in {
        "top_k": 1,
        "top_p": 0.01,
        "min_p": 1.0,
        "typical_p": 0.01,
        "eta_cutoff": 0.9,
    }.items():
        processed = SAMPLERS[name](logits, value)
        kept = processed.isfinite()
        assert kept.any(-1).all(), name
        assert torch.equal(processed[kept], logits[kept]), name


def test_toy_vocabulary_has_the_notebooks_counts(capsys):
    assert greedy(TOY_LOGITS[None]).item() == TOY_VOCAB["forward"]
    print_sampled_tokens(softmax_with_temperature(TOY_LOGITS, 1))
    counts = {
        word: int(n)
        for n, word in (line.split(" x ") for line in capsys.readouterr().out.splitlines())
    }
    assert counts == dict.fromkeys(TOY_VOCAB, 0) | {
        "closer": 73,
        "forward": 582,
        "inches": 2,
        "toward": 343,
    }


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda x: temperature(x, 0), "temperature: 0 is "),
        (lambda x: temperature(x, -1), "temperature: -1 is "),
        (lambda x: temperature(x, float("nan")), "temperature: nan is "),
        (lambda x: softmax_with_temperature(x, 0), "temperature: 0 is "),
        (lambda x: top_k(x, 0), "top_k: 0 is "),
        (lambda x: top_p(x, 0), "top_p: 0 is "),
        (lambda x: top_p(x, 1.5), "top_p: 1.5 is "),
        (lambda x: min_p(x, 1.1), "min_p: 1.1 is "),
        (lambda x: typical_p(x, 0), "typical_p: 0 is "),
        (lambda x: eta_cutoff(x, 1), "eta_cutoff: 1 is "),
        (lambda x: next_token(x, temperature=1.0, top_p=-1), "top_p: -1 is "),
    ],
)
def test_sampler_errors_name_settings_out_of_range(logits, act, word):
    with pytest.raises(UserError, match=word):
        act(logits)


def test_unknown_sampling_setting_is_named(logits):
    with pytest.raises(TypeError, match="topp"):
        next_token(logits, topp=0.5)


def test_top_p_keeps_the_best_token_when_p_is_0_in_float32(logits):
    kept = top_p(logits, 1e-320)
    assert torch.equal(kept.isfinite().sum(-1), torch.ones(len(logits), dtype=torch.long))
    assert torch.equal(kept.argmax(-1), logits.argmax(-1))
