"""Language models: what all of them offer, and a model of another class, wrapped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llm_scratch.architectures import ARCHITECTURES
from llm_scratch.errors import UserError
from llm_scratch.generation.decode import generate, stream
from llm_scratch.model import LanguageModel, as_language_model, build
from llm_scratch.model.language_model import WrappedModel
from llm_scratch.tokenizers import CharTokenizer

SIZES = {
    "vocab_size": 31,
    "context_length": 12,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.0,
}
IDS = torch.arange(10).view(2, 5)


class Bare(nn.Module):
    """A model as a notebook has it: no settings, no cache."""

    def __init__(self) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(31, 8)
        self.pos_emb = nn.Embedding(12, 8)
        self.head = nn.Linear(8, 31)

    def forward(self, ids):
        return self.head(self.tok_emb(ids) + self.pos_emb(torch.arange(ids.shape[1])))


class WithCache(nn.Module):
    """A model that takes a cache and gives logits only."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = build(SIZES).eval()
        self.new_cache = self.inner.new_cache

    def forward(self, ids, cache=None):
        return self.inner(ids, cache)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_is_a_language_model(name):
    model = build(SIZES | {"architecture": name})
    assert isinstance(model, LanguageModel)
    assert as_language_model(model) is model
    assert (model.context_length, model.vocab_size, model.emb_dim, model.start_id) == (
        12,
        31,
        24,
        None,
    )
    assert len(model.trf_blocks) == 2
    with pytest.raises(ValueError, match="13 tokens do not fit context_length=12"):
        model(torch.zeros(1, 13, dtype=torch.long))


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_cropped_context_gives_the_same_logits(name):
    model = build(SIZES | {"architecture": name}).eval()
    want = model(IDS)
    model.crop_context(7)
    assert torch.equal(model(IDS), want)
    assert model.cfg.context_length == 7
    assert model.cfg.n_params == sum(parameter.numel() for parameter in model.parameters())
    assert set(build(model.cfg).state_dict()) == set(model.state_dict())
    with pytest.raises(ValueError, match="8 tokens do not fit context_length=7"):
        model(torch.zeros(1, 8, dtype=torch.long))
    with pytest.raises(ValueError, match="context_length=7 cannot be extended to 9"):
        model.crop_context(9)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_cache_bytes_are_those_of_a_full_cache(name):
    own = {"qwen_next": {"full_every": 2}}  # one layer with keys, one with a state
    model = build(SIZES | {"architecture": name} | own.get(name, {}))
    cache = model.new_cache(1, block=None)
    keys_and_values = sum(part.nbytes for part in (*cache.keys, *cache.values))
    states = sum(state.nbytes for layer in getattr(cache, "states", []) for state in layer)
    assert model.cache_bytes(12) == model.cache_bytes(99) == keys_and_values + states
    assert model.cache_bytes(6) == keys_and_values // 2 + states


def test_bare_model_is_wrapped_with_its_attributes():
    bare = Bare()
    model = as_language_model(bare)
    assert (model.context_length, model.vocab_size, model.emb_dim, model.start_id) == (
        12,
        31,
        0,
        None,
    )
    assert (model.has_cache, model.has_hidden, model.head_is_tied, len(model.trf_blocks)) == (
        False,
        False,
        False,
        0,
    )
    assert torch.equal(model(IDS), bare(IDS))
    assert [*model.state_dict()] == [f"model.{name}" for name in bare.state_dict()]
    with pytest.raises(UserError, match="cache: Bare does not support one; leave it out"):
        model.new_cache(1)


def test_model_without_known_attributes_is_wrapped():
    model = as_language_model(nn.Identity())
    assert (model.context_length, model.vocab_size, model.cache_bytes(5)) == (None, None, 0)


def test_wrapped_cache_is_used():
    wrapped = as_language_model(WithCache())
    assert (wrapped.has_cache, wrapped.has_hidden) == (True, False)
    model = WithCache()
    assert torch.equal(generate(model, IDS, 5), generate(model.inner, IDS, 5))


def test_wrapped_model_keeps_its_start_id():
    bare = Bare()
    bare.start_id = 3
    assert as_language_model(bare).start_id == 3
    assert isinstance(as_language_model(bare), WrappedModel)
    assert "".join(
        stream(
            Bare(),
            CharTokenizer("abcdefghijklmnopqrstuvwxyz .,!?"),
            "ab",
            max_new_tokens=3,
            temperature=0,
        )
    )
