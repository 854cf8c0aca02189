"""The loader is a function of (seed, step) and shifts targets by one token.

It reads each window once per epoch.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm_scratch.data.loader import PAD_MULTIPLE, TokenLoader
from llm_scratch.errors import DATA, UserError
from llm_scratch.model.loss import IGNORE

T, EOT = 8, 99


@pytest.fixture
def ids():
    """Return 212 tokens whose values are their positions; every 15th ends a text.

    So a batch shows the positions that it was read from.
    """
    ids = np.arange(1000, 1212, dtype=np.int32)
    ids[::15] = EOT
    return ids


def places(loader, steps):
    """Return where the windows of some steps begin, taken from the batches themselves.

    The second token is never the end of a text.
    """
    return [int(row[1]) - 1001 for step in steps for row in loader.batch(step)[0]]


@pytest.mark.parametrize("order", ["shuffled", "notebook", "sequential"])
def test_targets_are_the_tokens_after(ids, order):
    loader = TokenLoader(ids, T, 4, order=order, eot=EOT)
    for step in range(9):
        inputs, targets = loader.batch(step)
        assert inputs.dtype == targets.dtype == torch.int64
        assert inputs.shape == targets.shape
        assert inputs.shape[1] == T
        starts = loader.starts_of(step)
        assert torch.equal(
            inputs, torch.from_numpy(np.stack([ids[s : s + T] for s in starts]).astype(np.int64))
        )
        assert torch.equal(
            targets,
            torch.from_numpy(np.stack([ids[s + 1 : s + T + 1] for s in starts]).astype(np.int64)),
        )


@pytest.mark.parametrize(
    ("order", "short_row"),
    [("shuffled", False), ("documents", False), ("notebook", False), ("sequential", True)],
)
def test_rows_begin_with_the_start_token_and_keep_their_targets(ids, order, short_row):
    plain, started = (
        TokenLoader(ids, T, 4, order=order, eot=EOT, start_id=start, short_row=short_row)
        for start in (None, 7)
    )
    for step in range(5):
        (inputs, targets), (same_inputs, same_targets) = started.batch(step), plain.batch(step)
        assert (inputs[:, 0] == 7).all()
        assert torch.equal(inputs[:, 1:], same_inputs[:, 1:])
        assert torch.equal(targets, same_targets)


@pytest.mark.parametrize("order", ["shuffled", "documents", "notebook", "sequential"])
def test_batch_depends_only_on_seed_and_step(ids, order):
    first, second = (TokenLoader(ids, T, 4, seed=5, order=order, eot=EOT) for _ in range(2))
    forwards = [first.batch(step)[0] for step in range(20)]
    for step in [19, 3, 3, 0, 11, *range(20)]:
        assert torch.equal(second.batch(step)[0], forwards[step])
    other = TokenLoader(ids, T, 4, seed=6, order=order, eot=EOT)
    same = all((other.starts_of(step) == first.starts_of(step)).all() for step in range(20))
    assert same == (order == "sequential")


def test_shuffled_order_reads_each_window_once_per_epoch_at_a_new_offset(ids):
    loader = TokenLoader(ids, T, 5, order="shuffled")
    n = len(loader.starts)
    drawn = [
        start for step in range(n) for start in loader.starts_of(step)
    ]  # five epochs: n steps of 5
    passes = [drawn[i * n : (i + 1) * n] for i in range(5)]
    offsets = set()
    for starts in passes:
        assert len(set(starts)) == n
        offset = min(starts)
        assert sorted(starts) == list(
            range(offset, offset + n * T, T)
        )  # consecutive: no token twice
        offsets.add(offset)
    assert len(offsets) > 1
    assert len({tuple(np.subtract(starts, min(starts))) for starts in passes}) == 5
    assert max(drawn) + T + 1 <= len(ids)


def targets_of_epochs(loader, epochs):
    """Return the targets of each of some epochs, taken from the batches.

    An epoch is as many rows as the loader has starts.
    """
    rows = []
    while len(rows) < epochs * len(loader.starts):
        rows += list(loader.batch(len(rows) // loader.batch_size)[1])
    n = len(loader.starts)
    return [torch.cat(rows[i * n : (i + 1) * n]) for i in range(epochs)]


@given(st.integers(2, 900), st.integers(1, 300), st.integers(1, 5), st.integers(0, 3))
def test_shuffled_order_targets_each_token_once_per_epoch_except_under_one_window(
    tokens, context_length, batch_size, seed
):
    if tokens <= context_length:
        return
    loader = TokenLoader(np.arange(tokens), context_length, batch_size, seed)
    assert loader.left_out == (tokens - 1) % context_length
    for targets in targets_of_epochs(loader, 3):
        assert len(set(targets.tolist())) == len(targets) == tokens - 1 - loader.left_out


@pytest.mark.parametrize(
    ("tokens", "context_length"), [(768, 256), (897, 380), (17, 8), (400, 390)]
)
def test_shuffled_order_skips_different_tokens_in_different_epochs(tokens, context_length):
    epochs = targets_of_epochs(TokenLoader(np.arange(tokens), context_length, 1), 40)
    assert set(torch.cat(epochs).tolist()) == set(range(1, tokens))
    if (tokens - 1) % context_length:
        assert len({tuple(targets.sort().values.tolist()) for targets in epochs}) > 1


def test_left_out_counts_tokens_that_are_never_targets():
    stream = np.array([7, EOT, 1, 2, 3, EOT, *range(10, 20), EOT, 4, 5])
    for order, left_out in (
        ("shuffled", 3),
        ("sequential", 3),
        ("notebook", 8),
        ("documents", 1 + 6 + 2),
    ):
        loader = TokenLoader(stream, 5, 2, order=order, eot=EOT)
        rows = [loader.batch(step)[1] for step in range(len(loader))]
        if order in ("sequential", "notebook"):
            assert sum(int((row != IGNORE).sum()) for row in rows) == len(stream) - 1 - left_out
        assert loader.left_out == left_out, order


def test_document_order_puts_one_document_in_a_row():
    """Each row holds a document, from the previous end of text to its own.

    Targets after it are masked.
    """
    stream = np.array([EOT, 1, 2, 3, EOT, 4, 5, EOT, *range(10, 20), EOT])
    loader = TokenLoader(stream, 5, 3, order="documents", eot=EOT)
    inputs, targets = loader.batch(0)
    rows = {
        tuple(row[row != IGNORE].tolist()): (len(ask), ask) for row, ask in zip(targets, inputs)
    }
    assert set(rows) == {(1, 2, 3, EOT), (4, 5, EOT), (10, 11, 12, 13, 14)}  # the last is cut at T
    assert all(row[0] == EOT for row in inputs)
    for document, (_, row) in rows.items():
        assert row[1 : len(document)].tolist() == list(document[:-1])
        assert (row[len(document) :] == EOT).all()


def test_batch_of_documents_is_padded_to_its_longest():
    stream = np.concatenate(
        [[EOT], np.arange(1, 20), [EOT, 3, EOT]]
    )  # documents of 20 and 2 tokens
    for context_length, width in ((64, 2 * PAD_MULTIPLE), (24, 24), (10, 10)):
        inputs, targets = TokenLoader(stream, context_length, 2, order="documents", eot=EOT).batch(
            0
        )
        assert inputs.shape == targets.shape == (2, width)
        assert (targets != IGNORE).sum() == min(20, width) + 2


def test_each_document_is_read_once_per_epoch(ids):
    loader = TokenLoader(ids, T, 5, order="documents", eot=EOT)
    n = len(loader.starts)
    assert n == (ids == EOT).sum() - 1
    drawn = [start for step in range(n) for start in loader.starts_of(step)]
    assert all(sorted(drawn[i * n : (i + 1) * n]) == sorted(loader.starts) for i in range(5))
    assert drawn[:n] != drawn[n : 2 * n]


def test_notebook_order_equals_the_notebooks_loader(ids):
    """Consecutive windows from the first token, shuffled, without a ragged last batch."""
    from torch.utils.data import DataLoader

    from llm_scratch.data.text import GPTDatasetV1

    class Spelled:
        def encode(self, text, **special):
            return ids.tolist()

    theirs = DataLoader(
        GPTDatasetV1("", Spelled(), T, T), batch_size=4, shuffle=False, drop_last=True
    )
    loader = TokenLoader(ids, T, 4, order="notebook")
    assert len(loader) == len(theirs) == 6
    want = {tuple(row.tolist()) for inputs, _ in theirs for row in inputs} | {
        tuple(ids[24 * T : 25 * T].tolist()),
        tuple(ids[200:208].tolist()),
    }
    for epoch in range(3):
        rows = [
            tuple(row.tolist()) for step in range(6) for row in loader.batch(6 * epoch + step)[0]
        ]
        assert len(set(rows)) == 24
        assert set(rows) <= want
    assert places(loader, range(6)) != places(loader, range(6, 12))


@pytest.mark.parametrize(
    ("tokens", "batch_sizes"),
    [(T + 1, [1]), (3 * T + 1, [2, 1]), (4 * T + 1, [2, 2]), (5 * T, [2, 2])],
)
def test_sequential_order_reads_every_token_once_with_a_short_last_batch(ids, tokens, batch_sizes):
    loader = TokenLoader(ids[:tokens], T, 2, order="sequential")
    assert [len(loader.batch(step)[0]) for step in range(len(loader))] == batch_sizes
    assert places(loader, range(len(loader))) == [T * i for i in range(sum(batch_sizes))]


@pytest.mark.parametrize("tokens", [2, T, T + 1, T + 2, 3 * T, 4 * T + 1])
@pytest.mark.parametrize("world", [1, 2])
def test_short_row_makes_every_token_a_target(ids, tokens, world):
    loader = TokenLoader(ids[:tokens], T, 2, order="sequential", short_row=True)
    steps = [
        loader.batch(step, rank, world) for step in range(len(loader)) for rank in range(world)
    ]
    kept = [(x[y != IGNORE], y[y != IGNORE]) for x, y in steps]
    inputs, targets = (torch.cat(column).tolist() for column in zip(*kept))
    assert inputs == ids[: tokens - 1].tolist()
    assert targets == ids[1:tokens].tolist()
    assert loader.left_out == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_loader_reads_a_token_file_larger_than_memory(ids, dtype, tmp_path):
    ids.astype(dtype).tofile(tmp_path / "tokens.bin")
    loader = TokenLoader(np.memmap(tmp_path / "tokens.bin", dtype=dtype, mode="r"), T, 4, seed=1)
    assert torch.equal(loader.batch(3)[0], TokenLoader(ids, T, 4, seed=1).batch(3)[0])


@pytest.mark.parametrize("order", ["shuffled", "documents", "notebook", "sequential"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 5])
def test_ranks_together_read_the_batch_in_its_order(ids, order, world):
    loader = TokenLoader(ids, T, 4, seed=2, order=order, eot=EOT)
    for step in range(len(loader)):
        whole = loader.batch(step)
        parts = [loader.batch(step, rank, world) for rank in range(world)]
        for together, *mine in zip(whole, *parts):
            assert torch.equal(torch.cat(mine), together)


@pytest.mark.parametrize("order", ["shuffled", "documents"])
def test_w3_sample_order_is_the_same_for_any_number_of_processes(order, measured):
    """Stop 10,000 samples in batches of 24 anywhere and resume with another world size.

    Each sample comes once per epoch.
    """
    samples, batch, worlds = 10_000, 24, (1, 2, 3, 4, 6, 8, 12, 24)
    stream = np.arange(
        samples * 4 + 1
    )  # a window or document has four tokens; each value is its position
    if order == "documents":
        stream = np.append(np.where(stream % 4 == 0, -1, stream)[: samples * 4], -1)
    steps = 2 * samples // batch + 1  # two epochs

    def taken(step, world):
        """The samples of one step of all ranks, read from their rows."""
        rows = [loader.batch(step, rank, world)[0] for rank in range(world)]
        assert {len(row) for row in rows} == {batch // world}
        return [int(row[1]) for part in rows for row in part]

    rng = np.random.default_rng(3)
    stops = np.sort(rng.choice(steps, 40, replace=False))
    runs = []
    for first in range(len(worlds)):
        loader = TokenLoader(
            stream, 4, batch, seed=9, order=order, eot=-1
        )  # a new process has no state of the previous one
        changes = [
            worlds[(first + int(np.searchsorted(stops, step, "right"))) % len(worlds)]
            for step in range(steps)
        ]
        runs.append([sample for step in range(steps) for sample in taken(step, changes[step])])
    alone = [int(row[1]) for step in range(steps) for row in loader.batch(step)[0]]
    assert all(run == alone for run in runs)
    for i in range(2):
        assert len(set(alone[i * samples : (i + 1) * samples])) == samples
    measured(
        "W3",
        f"{len(worlds)} world sizes, 40 stops: identical order, 0 repeats",
        "identical ids, each sample once per epoch, 0 repeats",
    )


@pytest.mark.parametrize(
    ("order", "tokens"),
    [("shuffled", T), ("notebook", 3 * T + 1), ("sequential", 0), ("documents", 1)],
)
def test_loader_error_states_number_of_windows(ids, order, tokens):
    with pytest.raises(
        UserError, match=rf"{tokens} tokens hold \d windows of {T}, \d+ needed; use more text"
    ) as error:
        TokenLoader(ids[:tokens], T, 4, order=order, eot=EOT)
    assert error.value.code == DATA


def test_document_order_requires_eot(ids):
    with pytest.raises(ValueError, match="needs eot, the token that begins a document"):
        TokenLoader(ids, T, 4, order="documents")


def test_shuffled_order_works_with_one_window(ids):
    loader = TokenLoader(ids[: T + 1], T, 4)
    assert places(loader, range(2)) == [0] * 8
