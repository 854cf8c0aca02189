"""The cache returns what was appended, in order, and rejects more than its size."""

import pytest
import torch

from llm_scratch.model.kv_cache import KVCache

L, B, G, S, D = 2, 3, 2, 6, 5


@pytest.fixture
def cache():
    return KVCache((L, B, G, S, D), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("block", [None, 1, 2, 4, 6, 100])
def test_cache_returns_all_tokens_so_far(block):
    cache = KVCache((L, B, G, S, D), torch.float32, torch.device("cpu"), block)
    k, v = torch.randn(2, B, G, S, D)
    for start, end in [(0, 2), (2, 3), (3, 6)]:
        for layer in range(L):
            keys, values = cache.append(
                layer, k[:, :, start:end] + layer, v[:, :, start:end] - layer
            )
            assert torch.equal(keys, k[:, :, :end] + layer)
            assert torch.equal(values, v[:, :, :end] - layer)
        cache.advance(end - start)
    assert (cache.pos, cache.remaining) == (S, 0)


@pytest.mark.parametrize(("block", "held"), [(None, [6, 6, 6]), (2, [2, 4, 6]), (4, [4, 4, 6])])
def test_cache_memory_grows_in_blocks(block, held):
    cache = KVCache((L, B, G, S, D), torch.float32, torch.device("cpu"), block)
    got = []
    for T in (2, 1, 2):
        for layer in range(L):
            cache.append(layer, *torch.zeros(2, B, G, T, D))
        cache.advance(T)
        got.append(cache.keys[-1].shape[2])
    assert got == held


@pytest.mark.parametrize(("pos", "T"), [(2, 3), (1, 5), (4, 2)])
def test_cache_mask_is_the_last_rows_of_the_causal_mask(cache, pos, T):
    cache.advance(pos)
    assert torch.equal(
        cache.mask(T), torch.ones(S, S, dtype=torch.bool).tril()[pos : pos + T, : pos + T]
    )


@pytest.mark.parametrize(("pos", "T"), [(0, 6), (0, 1), (5, 1)])
def test_cache_mask_is_none_where_the_kernel_needs_none(cache, pos, T):
    cache.advance(pos)
    assert cache.mask(T) is None


@pytest.mark.parametrize(("pos", "T"), [(0, 6), (0, 1), (5, 1), (2, 3)])
def test_padding_is_not_attended_to_and_has_no_position(cache, pos, T):
    cache.left_padding = torch.tensor([0, 2, 5])
    cache.advance(pos)
    mask, places = cache.mask(T), cache.positions(T)
    assert mask.shape == (B, 1, T, pos + T)
    for row, blank in enumerate([0, 2, 5]):
        for t in range(T):
            attended = [s for s in range(pos + T) if mask[row, 0, t, s]]
            assert attended == ([pos + t] if pos + t < blank else list(range(blank, pos + t + 1)))
            assert places[row, t] == max(0, pos + t - blank)


@pytest.mark.parametrize("padding", [None, [0, 2, 5]])
@pytest.mark.parametrize(("pos", "T"), [(0, 6), (0, 1), (5, 1), (2, 3), (4, 2)])
def test_windowed_cache_returns_only_attended_tokens(cache, pos, T, padding):
    window = 2
    cache.left_padding = None if padding is None else torch.tensor(padding)
    k = torch.randn(B, G, S, D)
    cache.append(0, k[:, :, :pos], k[:, :, :pos])
    cache.advance(pos)
    start, end = max(pos - window + 1, 0), pos + T
    keys, values = cache.append(0, k[:, :, pos:end], k[:, :, pos:end], window)
    assert torch.equal(keys, k[:, :, start:end])
    assert torch.equal(values, keys)
    whole = cache.mask(T)  # of all tokens
    whole = torch.ones(1, end, dtype=torch.bool) if whole is None and T == 1 else whole
    whole = torch.ones(T, end, dtype=torch.bool).tril(pos) if whole is None else whole
    wanted = whole & torch.ones(T, end, dtype=torch.bool).triu(pos - window + 1)
    mask = cache.mask(T, window)
    assert (mask is None) == (T == 1 and padding is None)
    if mask is not None:
        assert torch.equal(mask, wanted[..., start:])
    else:
        assert wanted[..., start:].all()


def test_cache_positions_continue_after_the_text(cache):
    cache.advance(2)
    assert cache.positions(3).tolist() == [2, 3, 4]


def test_selected_and_repeated_rows_are_independent(cache):
    k, v = torch.randn(2, B, G, 3, D)
    cache.left_padding = torch.tensor([0, 1, 2])
    for layer in range(L):
        cache.append(layer, k, v)
    cache.advance(3)
    cache.select_rows([2, 0, 2, 2])
    assert cache.left_padding.tolist() == [2, 0, 2, 2]
    new = torch.randn(4, G, 1, D)
    keys, _ = cache.append(0, new, new)
    assert torch.equal(keys[:, :, :3], k[[2, 0, 2, 2]])
    assert torch.equal(keys[:, :, 3:], new)


@pytest.mark.parametrize(
    "rows", [[0, 1, 2], [0, 0, 1], [1, 0, 2], [2, 2, 2], [1], [2, 1], [0, 1, 2, 2, 0]]
)
def test_select_rows_moves_rows_and_copies_nothing_else(cache, rows):
    """Beams select the same number of rows each time, many unmoved.

    Memory is allocated only for another number.
    """
    k, v = torch.randn(2, B, G, S, D)
    cache.append(0, k, v)
    cache.advance(4)
    cache.ids = torch.arange(3)[:, None].expand(3, 4)
    unused = torch.arange(3.0)[:, None, None, None].expand(3, G, S - 4, D)
    for keys in cache.keys:
        keys[:, :, 4:] = unused
    before = [keys.data_ptr() for keys in cache.keys]
    cache.select_rows(rows)
    assert torch.equal(cache.keys[0][:, :, :4], k[rows, :, :4])
    assert torch.equal(cache.values[0][:, :, :4], v[rows, :, :4])
    assert cache.ids[:, 0].tolist() == rows
    assert [keys.shape for keys in cache.keys] == [(len(rows), G, S, D)] * L
    assert ([keys.data_ptr() for keys in cache.keys] == before) == (len(rows) == B)
    if len(rows) == B:
        assert torch.equal(cache.keys[1][:, :, 4:], unused)


def test_cache_copies_nothing_for_rows_that_stay(cache):
    cache.append(0, *torch.randn(2, B, G, 4, D))
    cache.advance(4)
    versions = [kept._version for kept in (*cache.keys, *cache.values)]
    cache.select_rows(range(B))
    cache.select_rows(torch.arange(B))
    assert [kept._version for kept in (*cache.keys, *cache.values)] == versions
    cache.select_rows([0, 0, 2])
    assert cache.keys[0]._version > versions[0]


def test_cache_overwrites_rewound_tokens(cache):
    k, v = torch.randn(2, B, G, 5, D)
    cache.append(0, k, v)
    cache.advance(5)
    cache.ids = torch.arange(5).expand(B, 5)
    cache.rewind(9)
    assert cache.pos == 5
    cache.rewind(2)
    assert cache.ids.tolist() == [[0, 1]] * B
    keys, _ = cache.append(0, v[:, :, :1], v[:, :, :1])
    assert torch.equal(keys, torch.cat([k[:, :, :2], v[:, :, :1]], 2))


def test_full_cache_is_an_error_with_both_sizes(cache):
    cache.advance(5)
    with pytest.raises(ValueError, match="2 new tokens after 5 do not fit the cache of 6"):
        cache.append(0, *torch.zeros(2, B, G, 2, D))


def filled(rows, pos, block=None):
    """A cache of random keys and values in its first positions."""
    cache = KVCache((L, rows, G, S, D), torch.float32, torch.device("cpu"), block)
    for layer in range(L):
        cache.append(layer, *torch.randn(2, rows, G, pos, D))
    cache.advance(pos)
    return cache


@pytest.mark.parametrize(
    ("pos", "other_pos", "padding"), [(2, 5, [3, 3, 0]), (5, 2, [0, 0, 3]), (3, 3, None)]
)
@pytest.mark.parametrize("block", [1, None])
def test_merged_rows_are_aligned_at_the_last_token(pos, other_pos, padding, block):
    cache, other = filled(2, pos, block), filled(1, other_pos, block)
    before = [stored.clone() for stored in cache.keys]
    cache.merge(other)
    assert (cache.rows, cache.pos) == (3, max(pos, other_pos))
    assert (None if cache.left_padding is None else cache.left_padding.tolist()) == padding
    for layer in range(L):
        assert torch.equal(
            cache.keys[layer][:2, :, cache.pos - pos : cache.pos], before[layer][:, :, :pos]
        )
        assert torch.equal(
            cache.values[layer][2:, :, cache.pos - other_pos : cache.pos],
            other.values[layer][:, :, :other_pos],
        )
    cache.append(0, *torch.ones(2, 3, G, 1, D))
    assert (cache.keys[0][:, :, cache.pos] == 1).all()


def test_merged_padding_adds_to_the_existing_padding():
    cache, other = filled(2, 2), filled(1, 5)
    cache.left_padding = torch.tensor([1, 0])
    cache.merge(other)
    assert cache.left_padding.tolist() == [4, 3, 0]


def test_dropped_padding_leaves_the_tokens():
    cache = filled(2, 5)
    cache.left_padding, cache.ids = torch.tensor([2, 3]), torch.arange(10).view(2, 5)
    before = [stored.clone() for stored in cache.values]
    cache.drop_padding(2)
    assert (cache.pos, cache.left_padding.tolist(), cache.ids.tolist()) == (
        3,
        [0, 1],
        [[2, 3, 4], [7, 8, 9]],
    )
    assert all(
        torch.equal(cache.values[layer][:, :, :3], before[layer][:, :, 2:5]) for layer in range(L)
    )
    cache.append(0, *torch.ones(2, 2, G, 3, D))  # the memory grows again
    cache.left_padding = torch.tensor([1, 1])
    cache.drop_padding(1)
    assert cache.left_padding is None
