"""Shards behave like one array, read only the requested tokens, and report every damage."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_scratch.data import shards
from llm_scratch.data.loader import TokenLoader
from llm_scratch.data.sharding import make_shards
from llm_scratch.data.shards import (
    Shard,
    ShardedTokens,
    ShardIndex,
    ShardProgress,
    blocks,
    check_shards,
    open_shards,
    positions_of,
)
from llm_scratch.errors import DATA, UserError

EOT = 99
STORIES = [
    f"{name} had {n} apples and gave one away. The end of it."
    for n, name in enumerate(["Mia", "Ben", "Zoë", "Ida", "Lev", "Kim"])
]


def in_shards(ids, shard_tokens):
    """The same ids cut into shards."""
    return ShardedTokens(
        [ids[i : i + shard_tokens] for i in range(0, len(ids), shard_tokens)], shard_tokens
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A finished folder: 6 documents as characters in shards of 50 ids."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    (tmp_path / "stories.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in STORIES)
    )
    make_shards(str(tmp_path / "stories.jsonl"), tmp_path / "shards", "chars", shard_tokens=50)
    return tmp_path / "shards"


# Shards behave like an array.


@given(st.data())
@settings(deadline=None)
def test_sharded_tokens_index_like_an_array(data):
    n, size = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 15))
    ids = np.arange(100, 100 + n, dtype=np.uint16)
    ours, array = in_shards(ids, size), ids
    for _ in range(data.draw(st.integers(0, 2))):  # a view of a view
        begin, end = (data.draw(st.none() | st.integers(-n - 2, n + 2)) for _ in range(2))
        ours, array = ours[begin:end], array[begin:end]
    assert len(ours) == len(array)
    assert ours.dtype == np.asarray(ours).dtype == array.dtype
    assert np.array_equal(np.asarray(ours), array)
    assert np.array_equal(np.asarray(ours, dtype=np.int64), array.astype(np.int64))
    if len(array):
        places = data.draw(st.lists(st.integers(-len(array), len(array) - 1), max_size=12))
        want = array[np.array(places, dtype=int)]
        assert np.array_equal(ours[np.array(places, dtype=int)], want)
        assert np.array_equal(
            ours[np.array(places * 2, dtype=int).reshape(2, -1)], np.stack([want, want])
        )
        assert ours[-1] == array[-1]
    token = data.draw(st.integers(100, 100 + n))
    assert np.array_equal(positions_of(ours, token), np.flatnonzero(array == token))


@pytest.mark.parametrize("place", [20, -21, [3, 20]])
def test_sharded_tokens_out_of_range_raises_index_error(place):
    with pytest.raises(IndexError, match="are out of range for 20 tokens"):
        in_shards(np.arange(20), 6)[place]


def test_sharded_tokens_reject_slice_steps_and_views():
    row = in_shards(np.arange(20), 6)
    with pytest.raises(IndexError, match="slice step 2 is not supported"):
        row[::2]
    with pytest.raises(ValueError, match="only be converted to one array by copying"):
        np.asarray(row, copy=False)


def test_blocks_cover_a_row_from_any_position(monkeypatch):
    monkeypatch.setattr(shards, "BLOCK", 7)
    for row in (np.arange(30), in_shards(np.arange(30), 4)):
        found = list(blocks(row, 10))
        assert [first for first, _ in found] == [10, 17, 24]
        assert np.array_equal(np.concatenate([ids for _, ids in found]), np.arange(10, 30))


@pytest.mark.parametrize("order", ["shuffled", "documents", "notebook", "sequential"])
@given(
    seed=st.integers(0, 2**31),
    shard_tokens=st.integers(1, 230),
    steps=st.lists(st.integers(0, 500), min_size=1, max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_loader_of_shards_equals_loader_of_an_array(order, seed, shard_tokens, steps):
    ids = np.arange(1000, 1212, dtype=np.uint16)
    ids[::15] = EOT
    ours, theirs = (
        TokenLoader(row, 8, 4, seed, order, EOT) for row in (in_shards(ids, shard_tokens), ids)
    )
    assert len(ours) == len(theirs)
    for step in steps if order != "sequential" else range(len(theirs)):
        for a, b in zip(ours.batch(step), theirs.batch(step)):
            assert torch.equal(a, b)


def test_batch_of_shards_reads_only_its_tokens():
    class Watched(np.ndarray):
        seen: list[int] = []

        def __getitem__(self, places):
            Watched.seen.append(np.size(places))
            return super().__getitem__(places)

    row = ShardedTokens([np.arange(i * 1000, (i + 1) * 1000).view(Watched) for i in range(5)], 1000)
    TokenLoader(row, 8, 4).batch(3)
    assert sum(Watched.seen) == 4 * 9


# A folder of shards.


def test_shards_are_equal_after_writing_and_opening(folder):
    row, index = open_shards(folder)
    assert [shard.tokens for shard in index.shards[:-1]] == [50] * (len(index.shards) - 1)
    assert len(row) == index.tokens == sum(map(len, STORIES)) + len(STORIES) + 1
    assert row.dtype == np.dtype("<u2")
    raw = b"".join((folder / shard.file).read_bytes() for shard in index.shards)
    assert np.array_equal(np.asarray(row), np.frombuffer(raw, "<u2"))
    assert index == ShardIndex.load(folder)
    n_bytes = sum(len(text.encode()) for text in STORIES)
    assert index.done == ShardProgress(
        1, 1, len(STORIES), 0, n_bytes, (folder.parent / "stories.jsonl").stat().st_size
    )
    assert list(check_shards(folder)) == ["tokenizer.json", *(shard.file for shard in index.shards)]


def test_shards_store_ids_above_65535_in_four_bytes(tmp_path):
    class Large:
        n_vocab, eot_token = 70_000, 69_999

        def encode(self, text, **special):
            return [66_000 + ord(c) for c in text]

    from llm_scratch.data.encoding import encode
    from llm_scratch.data.readers import Texts

    ids = encode((Texts(("ab",), 2),), Large(), "uint32").ids
    assert ids.tolist() == [69_999, 66_097, 66_098]
    with pytest.raises(OverflowError):
        encode((Texts(("ab",), 2),), Large(), "uint16")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["tokenizer.json", "shard-00000.bin", "shard-00003.bin"])
@pytest.mark.parametrize("at", [0, 17, -1])
def test_check_finds_a_flipped_bit(folder, file, at):
    flip(folder / file, at)
    with pytest.raises(
        UserError, match=f"{file} is damaged: its sha256 is .*; run .* again with --fresh"
    ) as error:
        list(check_shards(folder))
    assert error.value.code == DATA


def damaged(change):
    def damage(folder):
        values = json.loads((folder / "index.json").read_text())
        change(values)
        (folder / "index.json").write_text(json.dumps(values))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "shard-00001.bin").unlink(), "shard-00001.bin is missing"),
        (
            lambda folder: (folder / "shard-00001.bin").write_bytes(bytes(99)),
            "shard-00001.bin has 99 bytes, not 100",
        ),
        (
            lambda folder: (folder / "index.json").unlink(),
            "no token shards in .*; expected a folder",
        ),
        (
            lambda folder: (folder / "index.json").write_text('{"version": 1'),
            "index.json is damaged",
        ),
        (lambda folder: (folder / "index.json").write_text("[]"), "index.json is damaged"),
        (lambda folder: (folder / "index.json").write_bytes(b"\xff"), "index.json is damaged"),
        (
            damaged(lambda values: values.update(version=9)),
            "shard format version 9 is not supported .expected 1",
        ),
        (
            damaged(lambda values: values.update(complete=False)),
            "are not complete .*; run the same",
        ),
        (damaged(lambda values: values.update(tokens=3)), "inconsistent values"),
        (damaged(lambda values: values.update(dtype="float64")), "inconsistent values"),
        (damaged(lambda values: values.update(more=1)), "index.json is damaged"),
        (damaged(lambda values: values.pop("shards")), "index.json is damaged"),
        (damaged(lambda values: values["done"].update(odd=1)), "index.json is damaged"),
    ],
)
def test_open_shards_describes_damage(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        open_shards(folder)
    assert error.value.code == DATA
    assert "\n" not in str(error.value)


def test_open_shards_rejects_a_missing_folder():
    with pytest.raises(
        UserError,
        match=(
            "no token shards in /nowhere .*; expected a folder made by `llm-scratch data prepare`"
        ),
    ):
        open_shards("/nowhere")


def test_shard_index_is_equal_after_saving(tmp_path):
    index = ShardIndex(
        {"shard_tokens": 5},
        {"name": "x"},
        "uint32",
        9,
        8,
        "ab",
        (Shard("s", 5, "cd"),),
        ShardProgress(1, 2, 3, 4, 5, 6),
        True,
    )
    index.save(tmp_path)
    assert ShardIndex.load(tmp_path) == index
