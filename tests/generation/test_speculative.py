"""Speculative decoding keeps the target's distribution and its greedy text.

No draft token exceeds the context.
"""

from __future__ import annotations

from functools import partial
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.generation import speculative as rules
from llm_scratch.generation.cached_model import NO_CHOICE
from llm_scratch.generation.decode import generate
from llm_scratch.generation.speculative import DraftModel, check_draft, prompt_lookup, speculate
from llm_scratch.model.gpt import GPTModel

V = 11
CFG = {
    "vocab_size": V,
    "context_length": 20,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": True,
}


class Chain(nn.Module):
    """A model whose logits depend on the last token only: a row of a table."""

    def __init__(self, seed):
        super().__init__()
        self.table = torch.randn(V, V, generator=torch.Generator().manual_seed(seed)) * 1.5

    def forward(self, ids):
        return self.table[ids]


def write(model, idx, propose, n, **kwargs):
    return torch.cat(
        [idx, *(step.ids for step in islice(speculate(model, idx, propose, **kwargs), n))], 1
    )


def chi_square_p(seen, probas):
    """Return the p-value of counts that were drawn row by row from `probas`."""
    expected = seen.sum(-1, keepdim=True) * probas
    may = expected > 0
    assert (seen[~may] == 0).all(), "a token of probability 0 was drawn"
    statistic = ((seen - expected)[may] ** 2 / expected[may]).sum()
    freedom = may.sum() - len(seen)
    return torch.special.gammaincc(freedom / 2.0, statistic / 2.0).item()


TOP_K = {"temperature": 0.8, "top_k": 4}


@pytest.mark.parametrize(
    ("who", "samplers", "n"),
    [
        pytest.param("another draft", {}, 20_000, marks=pytest.mark.slow),
        ("lookup", TOP_K, 5_000),
        pytest.param("another draft", TOP_K, 20_000, marks=pytest.mark.slow),
        pytest.param("the model itself", TOP_K, 20_000, marks=pytest.mark.slow),
        pytest.param("lookup", TOP_K, 20_000, marks=pytest.mark.slow),
        pytest.param("lookup", {}, 20_000, marks=pytest.mark.slow),
    ],
)
def test_speculative_tokens_have_the_targets_distribution(who, samplers, n):
    """Count what follows each token in texts of 100 tokens; the target's probabilities fit."""
    target, chance, seen = Chain(1), torch.Generator().manual_seed(7), torch.zeros(V, V)
    for _ in range(n // 100):
        propose = {
            "another draft": DraftModel(Chain(2), chance, **samplers),
            "the model itself": DraftModel(target, chance, **samplers),
            "lookup": partial(prompt_lookup, n_vocab=V),
        }[who]
        ids = write(
            target,
            torch.tensor([[0, 3]]),
            propose,
            100,
            generator=chance,
            draft_tokens=3,
            **samplers,
        )[0]
        seen.index_put_((ids[1:-1], ids[2:]), torch.ones(()), accumulate=True)
    assert seen.sum() == n
    logits = target.table / samplers.get("temperature", 1)
    logits = logits.masked_fill(
        logits < logits.topk(samplers.get("top_k", V)).values[:, -1:], -torch.inf
    )
    assert chi_square_p(seen, logits.softmax(-1)) > 0.001


def tiny(seed, width):
    """A GPT with a cache and another confident prediction for every history."""
    torch.manual_seed(seed)
    model = GPTModel(
        {
            "vocab_size": 5,
            "context_length": 128,
            "emb_dim": width,
            "n_heads": 1,
            "n_layers": 1,
            "drop_rate": 0.0,
            "qkv_bias": True,
        }
    )
    with torch.no_grad():
        model.out_head.weight.mul_(1.5)
    return model.eval()


@torch.no_grad()
def uniform_p(who, n):
    """p-value of n tokens that a GPT generated speculatively in texts of 125.

    Each token is mapped to a point of the target's cumulative distribution after its history, with
    the tokens that the draft overestimates last. If the decoding is correct, these points are
    uniform from 0 to 1 for any histories.
    """
    target, draft, chance = tiny(1, 8), tiny(2, 4), torch.Generator().manual_seed(5)
    idx = torch.tensor([[0, 3]])
    texts = []
    for _ in range(n // 125):
        propose = DraftModel(draft, chance) if who == "draft" else partial(prompt_lookup, n_vocab=5)
        texts.append(write(target, idx, propose, 125, generator=chance, draft_tokens=3))
    ids = torch.cat(texts)
    p, q = (model(ids[:, :-1]).softmax(-1)[:, 1:] for model in (target, draft))
    order = (q / p).argsort(-1)
    rank = order.argsort(-1).gather(2, ids[:, 2:, None])
    ends = p.gather(2, order).cumsum(-1)
    width = p.gather(2, ids[:, 2:, None])
    places = ends.gather(2, rank) - width * torch.rand(width.shape, generator=chance)
    counts = (places.clamp(0, 0.999999) * 20).long().flatten().bincount(minlength=20).float()
    assert counts.sum() == n
    return chi_square_p(counts[None], torch.full((1, 20), 1 / 20))


@pytest.mark.parametrize(
    ("who", "n"),
    [
        ("draft", 8_000),
        ("lookup", 5_000),
        pytest.param("draft", 20_000, marks=pytest.mark.slow),
        pytest.param("lookup", 20_000, marks=pytest.mark.slow),
    ],
)
def test_gpt_with_a_cache_keeps_its_distribution(who, n):
    assert uniform_p(who, n) > 0.001


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("_accept", lambda p, q, guess, chance: True),
        (
            "_accept",
            lambda p, q, guess, chance: bool(
                torch.rand((), generator=chance) * q.gather(1, guess) < 2 * p.gather(1, guess)
            ),
        ),
        ("_accept", lambda p, q, guess, chance: bool(torch.rand((), generator=chance) < 0.5)),
        ("_residual", lambda p, q: p),
    ],
    ids=[
        "every guess kept",
        "kept too often",
        "kept by a coin",
        "replaced by the model's own draw",
    ],
)
def test_distribution_test_detects_a_wrong_acceptance_rule(part, wrong, monkeypatch):
    monkeypatch.setattr(rules, part, wrong)
    assert uniform_p("draft", 1_500) < 1e-6


def test_chi_square_detects_a_small_error():
    """A wrong rule: keep a draft token if its target probability is half of the draft's."""
    seen = torch.multinomial(
        Chain(1).table.softmax(-1),
        2000,
        replacement=True,
        generator=torch.Generator().manual_seed(1),
    )
    seen = torch.stack([row.bincount(minlength=V) for row in seen]).float()
    assert chi_square_p(seen, Chain(1).table.softmax(-1)) > 0.001
    assert chi_square_p(seen, (Chain(1).table * 1.1).softmax(-1)) < 1e-6


def gpt(seed, **changes):
    torch.manual_seed(seed)
    return GPTModel(CFG | changes)


@pytest.mark.filterwarnings("ignore::llm_scratch.errors.GenerationWarning")
@given(
    prompt=st.lists(st.integers(0, V - 1), min_size=1, max_size=23),
    n=st.integers(1, 30),
    draft_tokens=st.integers(1, 6),
    who=st.sampled_from(["draft", "itself", "lookup"]),
    penalty=st.sampled_from([None, 1.3]),
)
@settings(max_examples=40, deadline=None)
def test_greedy_text_is_that_of_plain_greedy(prompt, n, draft_tokens, who, penalty):
    """Include a context that fills and slides, and a penalty that depends on the text."""
    model = gpt(1)
    greedy = {"temperature": 0, "repetition_penalty": penalty}
    idx = torch.tensor([prompt])
    propose = {
        "draft": lambda: DraftModel(gpt(2, n_layers=1, context_length=9), **greedy),
        "itself": lambda: DraftModel(model, **greedy),
        "lookup": lambda: partial(prompt_lookup, n_vocab=V),
    }[who]()
    assert torch.equal(
        write(model, idx, propose, n, draft_tokens=draft_tokens, **greedy),
        generate(model, idx, n, **greedy),
    )


def test_perfect_draft_is_always_accepted_and_saves_forward_passes(monkeypatch):
    model, readings = gpt(1), []
    twin = gpt(1)
    monkeypatch.setattr(
        model,
        "hidden",
        lambda ids, cache=None: readings.append(ids.shape[1]) or GPTModel.hidden(model, ids, cache),
    )
    write(
        model,
        torch.tensor([[1, 2]]),
        DraftModel(twin, temperature=0),
        15,
        draft_tokens=4,
        temperature=0,
    )
    assert readings == [6, 5, 5]


def test_speculative_steps_have_the_target_models_log_probabilities():
    model, idx = gpt(1).eval(), torch.tensor([[1, 2]])
    for step in islice(speculate(model, idx, DraftModel(gpt(2)), temperature=0.5), 12):
        with torch.no_grad():
            torch.testing.assert_close(step.logits, model(idx)[:, -1], rtol=1e-5, atol=1e-5)
        idx = torch.cat([idx, step.ids], 1)


def test_speculative_decoding_stops_when_the_context_is_full():
    ids = write(
        gpt(1),
        torch.tensor([[1, 2]]),
        partial(prompt_lookup, n_vocab=V),
        99,
        context_overflow="stop",
    )
    assert ids.shape[1] == CFG["context_length"] + 1
    assert (
        write(gpt(1), ids, partial(prompt_lookup, n_vocab=V), 99, context_overflow="stop").shape
        == ids.shape
    )
    assert write(gpt(1), ids, partial(prompt_lookup, n_vocab=V), 5).shape[1] == ids.shape[1] + 5


@pytest.mark.parametrize(
    ("text", "n", "want"),
    [
        ([1, 2, 3, 4, 1, 2, 3], 2, [4, 1]),  # three tokens were there before
        ([1, 2, 9, 2, 5, 2], 3, [5, 2]),  # one token: the latest match, up to the end of the text
        ([1, 2, 3], 4, []),
        ([7], 4, []),
    ],
)
def test_lookup_proposes_what_followed_before(text, n, want):
    guesses, q = prompt_lookup(torch.tensor([text]), n, n_vocab=V)
    assert guesses.tolist() == [want]
    assert q.shape == (1, len(want), V)
    assert q.argmax(-1).tolist() == [want]


def test_speculative_decoding_rejects_invalid_arguments():
    with pytest.raises(UserError, match="speculative decoding: got 2 texts; pass one at a time"):
        next(speculate(gpt(1), torch.zeros(2, 3, dtype=torch.long), DraftModel(gpt(2))))
    with pytest.raises(UserError, match="draft model has 12 tokens and the model 11"):
        check_draft(gpt(1), gpt(2, vocab_size=12))
    check_draft(gpt(1), gpt(2))


@pytest.mark.parametrize("who", ["draft", "lookup"])
def test_speculative_text_ends_when_every_token_is_excluded(who):
    propose = (
        DraftModel(tiny(2, 4), no_repeat_ngram_size=1)
        if who == "draft"
        else partial(prompt_lookup, n_vocab=5)
    )
    found = list(
        islice(speculate(tiny(1, 8), torch.tensor([[0, 3]]), propose, no_repeat_ngram_size=1), 9)
    )
    assert sorted(int(step.ids) for step in found[:-1]) == [1, 2, 4]
    assert int(found[-1].ids) == NO_CHOICE
