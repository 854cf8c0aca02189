"""The cache: what was put in comes out, in order, and there is no room beyond its size."""

import pytest
import torch

from llm_scratch.model.cache import KVCache

L, B, G, S, D = 2, 3, 2, 6, 5


@pytest.fixture
def cache():
    return KVCache((L, B, G, S, D), torch.float32, torch.device("cpu"))


def test_gives_all_tokens_so_far(cache):
    k, v = torch.randn(2, B, G, S, D)
    for start, end in [(0, 2), (2, 3), (3, 6)]:
        for layer in range(L):
            keys, values = cache.append(layer, k[:, :, start:end] + layer, v[:, :, start:end] - layer)
            assert torch.equal(keys, k[:, :, :end] + layer)
            assert torch.equal(values, v[:, :, :end] - layer)
        cache.advance(end - start)
    assert (cache.pos, cache.room) == (S, 0)


@pytest.mark.parametrize(("pos", "T"), [(0, 6), (2, 3), (5, 1), (0, 1)])
def test_mask_is_the_last_rows_of_the_triangle(cache, pos, T):
    cache.advance(pos)
    assert torch.equal(cache.mask(T), torch.ones(S, S, dtype=torch.bool).tril()[pos : pos + T, : pos + T])


def test_no_room_is_an_error_that_names_both_sizes(cache):
    cache.advance(5)
    with pytest.raises(ValueError, match="2 new tokens after 5 do not fit the cache of 6"):
        cache.append(0, *torch.zeros(2, B, G, 2, D))
