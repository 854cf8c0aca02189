"""TensorFlow's format: bit for bit what TensorFlow wrote.

What is broken gives one clear error, in one pass and in little memory.
"""

import random
import re
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from effort import at_most

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.tensorflow import MAX_INDEX, MAX_ROWS, TFCheckpointReader
from llm_scratch.interop.tensorflow_writer import (
    block,
    entry,
    header,
    number,
    one_table,
    part,
    sealed,
    table,
    varint,
    write,
)

HERE = Path(__file__).parent
TINY = HERE / "tiny_gpt2" / "model.ckpt"
F4 = 1


@pytest.mark.parametrize(
    ("folder", "n", "shards"), [("tiny_gpt2/model", 28, 1), ("kinds/kinds", 15, 2)]
)
def test_tensorflow_reader_equals_tensorflow(folder, n, shards):
    checkpoint = TFCheckpointReader(HERE / f"{folder}.ckpt")
    expected = np.load((HERE / folder).parent / "expected.npz")
    assert (set(checkpoint.variables), len(expected.files), checkpoint.n_shards) == (
        set(expected.files),
        n,
        shards,
    )
    for name in expected.files:
        ours, theirs = checkpoint.read(name), expected[name]
        assert (ours.dtype, ours.shape, ours.tobytes()) == (
            theirs.dtype,
            theirs.shape,
            theirs.tobytes(),
        ), name


@pytest.mark.parametrize("per_block", [1, 3, 1000])
def test_tensorflow_index_of_many_blocks_is_read(tmp_path, per_block):
    tensors = {
        f"h{n}/w{'x' * (n % 7)}": np.arange(n, dtype=np.float32).reshape(1, n) for n in range(50)
    }
    write(tmp_path / "c", tensors, per_block)
    checkpoint = TFCheckpointReader(tmp_path / "c")
    assert set(checkpoint.variables) == set(tensors)
    assert all(np.array_equal(checkpoint.read(name), value) for name, value in tensors.items())


@pytest.fixture
def copy(tmp_path):
    """A copy of the tiny checkpoint that tests may damage."""
    for path in TINY.parent.glob("model.ckpt.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.ckpt"


def read_all(prefix):
    checkpoint = TFCheckpointReader(prefix)
    return {name: checkpoint.read(name) for name in checkpoint.variables}


def assert_refused(prefix, message=""):
    with pytest.raises(UserError, match=message) as error:
        read_all(prefix)
    assert error.value.code == CHECKPOINT
    assert str(prefix) in str(error.value)
    assert "\n" not in str(error.value)


def test_every_cut_of_the_index_is_refused(copy):
    index = copy.with_name("model.ckpt.index")
    whole = index.read_bytes()
    for n in range(len(whole)):
        index.write_bytes(whole[:n])
        assert_refused(copy, "is damaged")


def test_every_changed_byte_of_the_index_is_refused_or_changes_nothing(copy):
    """A checksum covers all but the footer's padding and the empty metaindex block."""
    index, names = copy.with_name("model.ckpt.index"), set(TFCheckpointReader(copy).variables)
    whole, quiet = index.read_bytes(), 0
    for n in range(len(whole)):
        index.write_bytes(whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :])
        try:
            found = set(TFCheckpointReader(copy).variables)
        except UserError:
            continue
        assert found == names
        quiet += 1
    assert quiet <= 40 + 8 + 5


@pytest.mark.parametrize("place", [0, 5, 9_000, 15_903])
def test_changed_byte_of_the_data_names_its_tensor(copy, place):
    data = copy.with_name("model.ckpt.data-00000-of-00001")
    raw = bytearray(data.read_bytes())
    raw[place] ^= 4
    data.write_bytes(raw)
    hit = next(
        name
        for name, v in TFCheckpointReader(copy).variables.items()
        if v.offset <= place < v.offset + v.size
    )
    assert_refused(
        copy, f"data-00000-of-00001 is damaged: the checksum of {re.escape(hit)} differs"
    )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda p: p.unlink(), "cannot read model/.* from .*data-00000-of-00001: No such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "ends before model/wte"),
        (lambda p: p.write_bytes(b""), "ends before model/"),
    ],
    ids=["missing", "one byte short", "empty"],
)
def test_missing_data_names_its_tensor(copy, fault, message):
    fault(copy.with_name("model.ckpt.data-00000-of-00001"))
    assert_refused(copy, message)


def rows(*more, head=None):
    return one_table([(b"", header() if head is None else head), *more])


def long_key_blocks():
    """Two letters per row, each key one letter longer than the last."""
    return table(
        [
            sealed(
                b"".join(
                    [
                        b"\0\0" + varint(len(header())) + header(),
                        *(varint(n) + b"\1\0a" for n in range(3000)),
                        b"\0" * 4,
                        b"\1\0\0\0",
                    ]
                )
            )
        ],
        [b"z"],
    )


LIES = {
    "no header": (one_table([(b"a", entry(F4, [1], 0, 0, 4, 0))]), "first row is not the header"),
    "no rows": (table([], []), "first row is not the header"),
    "no data files": (rows(head=header(0)), "has 0 data files"),
    "a million data files": (rows(head=header(1_000_000)), "has 1000000 data files"),
    "big-endian": (rows(head=header(1, 1)), "big-endian"),
    "header of text": (rows(head=part(1, b"one")), "field 1 of a message is not a number"),
    "header cut": (rows(head=b"\x12\x7f"), "a message ends too early"),
    "endless number": (rows(head=b"\x08" + b"\xff" * 12), "a number does not end"),
    "odd wire type": (rows(head=b"\x0b\x01"), "a message ends too early"),
    "shape of number": (
        rows((b"a", number(1, F4) + number(2, 5))),
        "field 2 of a message is not a message",
    ),
    "huge": (
        rows((b"a", entry(F4, [1 << 20, 1 << 20], 0, 0, 4, 0))),
        "a has 4 bytes, but .* is 4,398,046,511,104",
    ),
    "huge and there": (
        rows((b"a", entry(F4, [1 << 20, 1 << 20], 0, 0, 1 << 42, 0))),
        "ends before a: it has 16 bytes",
    ),
    "negative": (rows((b"a", entry(F4, [2**64 - 1], 0, 0, 2**64 - 4, 0))), "a has the shape"),
    "empty and huge": (rows((b"a", entry(F4, [0, 2**63], 0, 0, 0, 0))), "a has the shape"),
    "nine dimensions": (rows((b"a", entry(F4, [1] * 9, 0, 0, 4, 0))), "a has the shape"),
    "far offset": (rows((b"a", entry(F4, [1], 0, 2**63, 4, 0))), "ends before a"),
    "data file 7": (rows((b"a", entry(F4, [1], 7, 0, 4, 0))), "a is in data file 7 of 1"),
    "same bytes": (
        rows((b"a", entry(F4, [2], 0, 0, 8, 0)), (b"b", entry(F4, [1], 0, 4, 4, 0))),
        "b and a share bytes",
    ),
    "text": (rows((b"a", entry(7, [1], 0, 0, 4, 0))), "a is not a plain array of numbers"),
    "slices": (
        rows((b"a", entry(F4, [1], 0, 0, 4, 0) + part(7, b""))),
        "a is not a plain array of numbers",
    ),
    "no UTF-8": (rows((b"\xff", entry(F4, [1], 0, 0, 4, 0))), "can't decode"),
    "twice": (rows((b"a", b""), (b"a", b"")), "repeated or out of order"),
    "out of order": (rows((b"b", b""), (b"a", b"")), "repeated or out of order"),
    "compressed": (
        table([block([(b"", header())], 1)], [b"z"]),
        r"a block is compressed \(kind 1\)",
    ),
    "many restarts": (
        table([sealed(b"\0\0\0\xff\xff\xff\xff")], [b"z"]),
        "a block is shorter than its restart points",
    ),
    "shared too long": (
        table([sealed(b"\5\0\0" + b"\0" * 4 + b"\1\0\0\0")], [b"z"]),
        "a row does not fit its block",
    ),
    "value too long": (
        table([sealed(b"\0\1\x7fa" + b"\0" * 4 + b"\1\0\0\0")], [b"z"]),
        "a row does not fit its block",
    ),
    "keys that grow": (long_key_blocks(), "a row does not fit its block"),
    "empty": (b"", "does not end as a table"),
    "another file": (b"PK\3\4" * 100, "does not end as a table"),
    "too large": (b"\0" * (MAX_INDEX + 1), "bytes, expected at most"),
    "many rows": (
        one_table([(b"", header()), *((b"%06d" % n, b"") for n in range(MAX_ROWS))], 5000),
        "more than 10,000 rows",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_false_sizes_under_valid_checksums_are_refused_in_one_pass(tmp_path, lie):
    index, message = LIES[lie]
    (tmp_path / "c.index").write_bytes(index)
    (tmp_path / "c.data-00000-of-00001").write_bytes(bytes(16))
    bytes_read = len(index) if len(index) <= MAX_INDEX else 0
    with at_most(lines=5_000 + 30 * bytes_read):  # up to 20 a byte; the 5,000 are pytest's own
        assert_refused(tmp_path / "c", message)
    tracemalloc.start()
    assert_refused(tmp_path / "c", message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_random_messages_never_crash_the_reader(tmp_path):
    chance = random.Random(5)
    seed = entry(F4, [2, 3], 0, 0, 24, 7)
    (tmp_path / "c.data-00000-of-00001").write_bytes(bytes(64))
    for _ in range(600):
        value = bytearray(seed)
        for _ in range(chance.randint(1, 4)):
            value[chance.randrange(len(value))] = chance.randrange(256)
        (tmp_path / "c.index").write_bytes(
            rows((b"a", bytes(value[: chance.randint(1, len(value))])))
        )
        with pytest.raises(UserError):  # the checksum of 24 zeros is not 7
            read_all(tmp_path / "c")


def test_missing_checkpoint_and_an_unknown_tensor_are_named(tmp_path):
    assert_refused(
        tmp_path / "nothing",
        "cannot read .*nothing.index: No such file or directory; expected TensorFlow's index",
    )
    with pytest.raises(
        UserError, match=r"has no tensor model/wtf; expected it among its 28"
    ) as error:
        TFCheckpointReader(TINY).read("model/wtf")
    assert error.value.code == CHECKPOINT
