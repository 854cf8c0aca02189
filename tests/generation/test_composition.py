"""All logits processors together give the logits of transformers' processors in its order."""

from __future__ import annotations

import pytest
import torch

from llm_scratch.generation import steps
from llm_scratch.generation.penalties import counts
from llm_scratch.generation.sampling import process_logits
from llm_scratch.generation.steps import build_sampler

B, V, S = 6, 61, 40
BIAS = {3: 2.5, 7: -1.0, 60: 4.0}
SETTINGS = {
    "logit_bias": BIAS,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "temperature": 1.7,
    "top_k": 30,
    "top_p": 0.9,
    "min_p": 0.02,
    "typical_p": 0.9,
    "eta_cutoff": 0.05,
}


def random_scores(seed):
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(B, V, generator=chance) * 2, torch.randint(0, 12, (B, S), generator=chance)


@pytest.fixture(scope="module")
def theirs():
    """transformers' processors for `SETTINGS`, put in order by transformers."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=V, n_positions=8, n_embd=4, n_head=1, n_layer=1)
    )
    same_names = {name: value for name, value in SETTINGS.items() if name != "logit_bias"}
    config = transformers.GenerationConfig(
        do_sample=True,
        sequence_bias={(token,): value for token, value in BIAS.items()},
        **same_names,
    )
    ids = torch.zeros(B, S, dtype=torch.long)
    found = model._get_logits_processor(
        config, input_ids_seq_length=S, encoder_input_ids=ids, device="cpu", model_kwargs={}
    )
    assert len(found) == len(SETTINGS)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_all_logits_processors_equal_transformers(theirs, seed):
    logits, ids = random_scores(seed)
    want = theirs(ids, logits.clone())
    assert torch.equal(
        process_logits(logits, ids, **dict(reversed(SETTINGS.items()))), want
    )  # the order of the arguments does not matter


def test_swapped_processors_are_detected(theirs):
    """Swapping two neighbors changes the logits, unless one does not affect the other."""
    seen = {}
    commute = {
        ("repetition_penalty", "no_repeat_ngram_size"),
        ("no_repeat_ngram_size", "temperature"),
        ("temperature", "top_k"),
    }
    for i, pair in enumerate(zip(SETTINGS, list(SETTINGS)[1:], strict=False)):
        swapped = type(theirs)([*theirs[:i], theirs[i + 1], theirs[i], *theirs[i + 2 :]])
        cases = map(random_scores, range(200))
        seen[pair] = any(
            not torch.equal(swapped(ids, logits.clone()), theirs(ids, logits.clone()))
            for logits, ids in cases
        )
    assert seen == {pair: pair not in commute for pair in seen}


def test_penalties_without_a_processor_act_between_the_others_and_the_samplers(theirs):
    """Test OpenAI's two penalties as processors of their own.

    They act after the n-gram rule and before the temperature.
    """
    logits, ids = random_scores(1)
    openai = type(theirs)(
        [
            *theirs[:3],
            lambda ids, x: x - 0.6 * (counts(ids, V) > 0),
            lambda ids, x: x - 0.2 * counts(ids, V),
            *theirs[3:],
        ]
    )
    got = process_logits(logits, ids, presence_penalty=0.6, frequency_penalty=0.2, **SETTINGS)
    assert torch.equal(got, openai(ids, logits.clone()))
    assert not torch.equal(got, theirs(ids, logits.clone()))


def test_constraint_applies_first_and_mirostat_last(theirs, monkeypatch):
    """Forbidden tokens take none of the top k; Mirostat acts on the final distribution."""
    logits, ids = random_scores(2)
    drawn = []
    monkeypatch.setattr(
        steps,
        "sample",
        lambda scores, generator: drawn.append(scores) or scores.argmax(-1, keepdim=True),
    )
    forbidden = logits.topk(5).indices

    def constraint(scores, ids):
        return scores.scatter(1, forbidden, -torch.inf)

    build_sampler(constraint=constraint, **SETTINGS)(logits, ids)
    build_sampler(constraint=constraint, mirostat=1.0, **SETTINGS)(logits, ids)
    want = theirs(ids, constraint(logits.clone(), ids))
    assert torch.equal(drawn[0], want)
    surprise = want.log_softmax(-1) / -torch.tensor(2.0).log()
    assert torch.equal(
        drawn[1].isfinite(),
        want.isfinite() & ((surprise <= 2.0) | (want == want.amax(-1, keepdim=True))),
    )
    assert not torch.equal(drawn[0], drawn[1])
