"""`stream` gives the text of each decoding strategy by name.

A setting that a strategy would ignore is an error.
"""

from __future__ import annotations

import pytest
import torch

from llm_scratch.errors import UserError
from llm_scratch.generation import strategies
from llm_scratch.generation.beam import beam_search
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.decode import stream, stream_batch, stream_chunks
from llm_scratch.generation.steps import Step
from llm_scratch.generation.strategies import STRATEGIES, settings_of, strategies_with
from llm_scratch.model.gpt import GPTModel

CFG = {
    "vocab_size": 130,
    "context_length": 24,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": True,
}


class Ascii:
    """A tokenizer of bytes below 128, and 128 the end of text."""

    n_vocab, eot_token = 129, 128

    def encode(self, text, **_):
        return list(text.encode())

    def decode_bytes(self, ids):
        return bytes(i for i in ids if i < 128)


@pytest.fixture
def model():
    torch.manual_seed(5)
    return GPTModel(CFG)


@pytest.fixture
def draft():
    torch.manual_seed(6)
    return GPTModel(CFG | {"n_layers": 1})


def text_of(model, **settings):
    return "".join(stream(model, Ascii(), "ab", max_new_tokens=8, **settings))


@pytest.mark.parametrize("strategy", ["lookup", "speculative", "contrastive"])
def test_strategies_that_reduce_to_greedy_give_its_text(strategy, model, draft):
    settings = {
        "lookup": {"temperature": 0, "draft_tokens": 2},
        "speculative": {"temperature": 0, "draft": draft},
        "contrastive": {"candidates": 1},
    }
    assert text_of(model, strategy=strategy, **settings[strategy]) == text_of(model, temperature=0)


def test_beam_gives_the_texts_of_its_search(model):
    best = beam_search(
        model,
        torch.tensor([[97, 98]]),
        max_new_tokens=8,
        beams=3,
        n_best=2,
        eos_id=128,
        n_vocab=129,
    )
    texts = ["", ""]
    for row, chunk in stream_batch(
        model, Ascii(), ["ab"], samples=2, max_new_tokens=8, strategy="beam", beams=3
    ):
        texts[row] += chunk.text
    assert texts == [Ascii().decode_bytes(beam.ids).decode() for beam in best]
    assert text_of(model, strategy="beam", beams=3) == texts[0]


def test_samples_of_a_random_strategy_are_those_of_their_seeds(model):
    lookup = {"max_new_tokens": 8, "strategy": "lookup", "temperature": 1.5}
    texts = ["", "", "", ""]
    for row, chunk in stream_batch(model, Ascii(), ["ab", "c"], samples=2, seed=1, **lookup):
        texts[row] += chunk.text
    alone = [
        "".join(stream(model, Ascii(), prompt, seed=seed, **lookup))
        for prompt, seed in zip(["ab", "ab", "c", "c"], [1, 2, 3, 4])
    ]
    assert texts == alone
    assert len(set(texts)) == 4


def test_text_settings_apply_to_every_strategy(model):
    whole = text_of(model, strategy="contrastive")
    assert text_of(model, strategy="contrastive", stop=[whole[3]]) == whole[: whole.index(whole[3])]
    chunks = list(
        stream_chunks(model, Ascii(), "ab", max_new_tokens=3, strategy="contrastive", top=2)
    )
    assert [len(chunk.top) for chunk in chunks] == [2, 2, 2]
    assert [chunk.stop_reason for chunk in chunks] == [None, None, "length"]
    *_, last = stream_chunks(
        model,
        Ascii(),
        "ab",
        max_new_tokens=90,
        strategy="contrastive",
        context_overflow="stop",
        stop_at_eot=False,
    )
    assert last.stop_reason == "context"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "beams"}, "unknown strategy 'beams'; did you mean 'beam'"),
        (
            {"strategy": "beam", "top_k": 3},
            "top_k has no effect with strategy='beam'; it applies to sample, speculative, lookup",
        ),
        (
            {"strategy": "beam", "seed": 3},
            "seed has no effect with strategy='beam'; it applies to sample, speculative, lookup",
        ),
        (
            {"strategy": "contrastive", "beams": 3},
            "beams has no effect with strategy='contrastive'; it applies to beam",
        ),
        (
            {"strategy": "lookup", "mirostat": 3.0},
            "mirostat has no effect with strategy='lookup'; it applies to sample",
        ),
        ({"strategy": "lookup", "alhpa": 3.0}, "unknown setting 'alhpa'"),
        ({"alpha": 0.5}, "alpha has no effect with strategy='sample'; it applies to contrastive"),
        ({"top_kk": 5}, "unknown setting 'top_kk'; did you mean 'top_k'"),
        ({"strategy": "speculative"}, "strategy='speculative' needs draft"),
        (
            {"strategy": "contrastive", "samples": 2},
            "samples has no effect with strategy='contrastive'; it applies to sample, beam",
        ),
        ({"mirostat": 3.0, "temperature": 0}, "mirostat: has no effect at temperature=0"),
        ({"stop": "x"}, "stop: 'x' is one string"),
        ({"regex": "a", "json_schema": "{}"}, "pass one of the two"),
    ],
)
def test_setting_without_effect_is_an_error(settings, message, model):
    with pytest.raises(UserError, match=message):
        stream(model, Ascii(), "ab", **settings)


def test_custom_strategy_is_one_function_and_one_line(model, monkeypatch):
    monkeypatch.setattr(strategies, "STRATEGIES", dict(STRATEGIES))

    def alphabet(model, ids, *, by=1, seed=None, n_vocab=None):
        """Generate the next letters and ignore the model."""
        assert n_vocab == 129
        letter = ids[:, -1:]
        while True:
            letter = letter + by
            yield Step(letter, torch.zeros(1, 130))

    strategies.STRATEGIES["alphabet"] = alphabet
    assert text_of(model, strategy="alphabet") == "cdefghij"
    assert text_of(model, strategy="alphabet", by=2, stop=["l"]) == "dfhj"
    assert settings_of("alphabet") == {"by", "seed", "samples"}
    assert strategies_with("by") == ["alphabet"]
    with pytest.raises(
        UserError, match="by has no effect with strategy='beam'; it applies to alphabet"
    ):
        text_of(model, strategy="beam", by=2)


def test_config_has_every_sampler_and_penalty_and_custom_ones(monkeypatch):
    monkeypatch.setitem(strategies.SAMPLERS, "top_a", lambda logits, a: logits)
    config = GenerationConfig.of(top_a=0.2, top_k=3, min_p=None)
    assert config.sampling() == {"temperature": 0.8, "top_k": 3, "top_a": 0.2}
    assert config == GenerationConfig.of(top_k=3, top_a=0.2)
    del strategies.SAMPLERS["top_a"]
    names = {*strategies.SAMPLERS, *strategies.PENALTIES}
    assert names <= set(GenerationConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("top_p", 2.0),
        ("seed", -1),
        ("logit_bias", {1: float("nan")}),
        ("top", -1),
    ],
)
def test_config_rejects_numbers_out_of_range(name, value):
    with pytest.raises(UserError, match=f"{name}: .* out of range"):
        GenerationConfig(**{name: value})
