"""The cache of layers with a state: rows join and leave, and padding leaves no trace.

Truncation starts from the beginning.
"""

import pytest
import torch

from llm_scratch.generation.cached_model import CachedModel
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.decode import generate
from llm_scratch.generation.engine import Engine
from llm_scratch.model import build

SIZES = {
    "architecture": "qwen_next",
    "vocab_size": 31,
    "context_length": 40,
    "emb_dim": 16,
    "n_heads": 2,
    "n_layers": 3,
    "full_every": 2,
    "n_experts": 3,
}
IDS = torch.randint(0, 31, (3, 30), generator=torch.Generator().manual_seed(0))


def hybrid(**changes):
    torch.manual_seed(0)
    model = build(SIZES | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.fixture(scope="module")
def model():
    return hybrid()


def cached(model, ids):
    cache = model.new_cache(len(ids), block=8)
    with torch.no_grad():
        model(ids, cache)
    return cache


@torch.no_grad()
def test_state_cache_rows_are_selected_repeated_and_merged(model):
    cache = cached(model, IDS[:, :9])
    cache.select_rows([2, 0, 2])
    cache.merge(cached(model, IDS[1:2, :4]))
    assert cache.rows == 4
    assert cache.left_padding.tolist() == [0, 0, 0, 5]
    logits = model(IDS[[2, 0, 2, 1], 9:10], cache)
    texts = [IDS[2, :10], IDS[0, :10], IDS[2, :10], torch.cat([IDS[1, :4], IDS[1, 9:10]])]
    for row, text in zip(logits, texts):
        torch.testing.assert_close(row[-1], model(text[None])[0, -1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padding_leaves_no_trace_in_the_states(model):
    cache = model.new_cache(2)
    cache.left_padding = torch.tensor([0, 5])
    padded = IDS[:2, :9].clone()
    padded[1, :5] = 7  # the content of padding does not matter
    model(padded, cache)
    alone = cached(model, IDS[1:2, 5:9])
    for layer, want in zip(cache.states, alone.states):
        for state, own in zip(layer, want):
            torch.testing.assert_close(state[1:], own, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_rewind_starts_from_the_beginning_and_none_is_free(model):
    cache = cached(model, IDS[:, :9])
    states = [state for layer in cache.states for state in layer]
    cache.rewind(9)
    assert cache.pos == 9
    assert all(a is b for a, b in zip(states, (s for layer in cache.states for s in layer)))
    cache.rewind(8)
    assert cache.pos == 0
    assert not any(state.any() for layer in cache.states for state in layer)
    torch.testing.assert_close(model(IDS, cache), model(IDS), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_text_that_shares_a_prefix_is_read_again(model):
    reader = CachedModel(model)
    reader(IDS[:1, :9])
    other = torch.cat([IDS[:1, :6], IDS[1:2, :5]], 1)
    reader.sync_to(other)
    torch.testing.assert_close(reader(other)[0, -1], model(other)[0, -1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("full_every", [2, 9])
def test_texts_that_join_and_leave_equal_texts_generated_alone(full_every):
    """9: no layer is attention, and the cache has states only."""
    model = hybrid(full_every=full_every)
    lengths, written = [12, 5, 8], {}
    with Engine(model, prefill_chunk=4) as engine:
        for row, length in enumerate(lengths):
            config = GenerationConfig(temperature=0, max_tokens=4 + 3 * row)
            written[engine.add(IDS[row, :length].tolist(), config)] = []
            for _ in range(2):
                for id, chunk in engine.step().items():
                    written[id] += [] if chunk.id is None else [chunk.id]
        while engine:
            for id, chunk in engine.step().items():
                written[id] += [] if chunk.id is None else [chunk.id]
    for row, (length, ids) in enumerate(zip(lengths, written.values())):
        alone = generate(model, IDS[row : row + 1, :length], 4 + 3 * row, temperature=0)
        assert ids == alone[0, length:].tolist()


def test_state_cache_bytes_grow_with_the_text_only_for_attention():
    def keys_and_values(model, tokens):
        return 2 * sum(layer.att.num_kv_heads * 8 * 4 for layer in model.trf_blocks[1::2]) * tokens

    model = hybrid(n_value_heads=4)
    heads, conv = (
        4 * 8 * 8,
        3 * (8 * 2 * 2 + 8 * 4),
    )  # recurrent states, and the last tokens of a convolution
    states = 2 * (heads + conv) * 4
    for tokens in (1, 10, 40):
        assert model.cache_bytes(tokens) == states + keys_and_values(model, tokens)
        cache = model.new_cache(1, block=tokens)
        assert cache.nbytes == model.cache_bytes(tokens)
