"""F2: hostile safetensors files are refused before they cause work or memory.

The tests count executed lines of Python and the memory of the process.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from effort import PATIENCE_SECONDS, at_most

from llm_scratch.config import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.gpt2_weight_map import HF, HF_PREFIX
from llm_scratch.interop.safetensors import MAX_HEADER, MAX_PARTS, read_header
from llm_scratch.interop.weight_map import expand
from llm_scratch.loading import load
from llm_scratch.model import build

MAX_LINES = 4 * MAX_PARTS
"""executed lines of Python: four a part of the largest header; a million tensors would take more"""
MAX_GROWTH_BYTES = 8 << 20
"""by which the process may grow: for a header of MAX_HEADER bytes, and for Python itself"""


def row(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def written(path, head, data=b"", length=None):
    text = head if isinstance(head, bytes) else json.dumps(head, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def nothings(n, double=False):
    """A header of n tensors of no bytes; `double`: its last name a second time."""
    names = [*range(n), *([n - 1] if double else [])]
    return (
        b"{"
        + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in names)
        + b"}"
    )


def last_twice(path, size):
    """Return a header of `size` bytes of short entries whose last name is a duplicate."""
    n = (size - 100) // 11
    inner = b",".join(b'"%06d":0' % i for i in range(n))
    written(path, (b'{"__metadata__":{%b,"%06d":1}}' % (inner, n - 1)).ljust(size))


def announced(path):
    written(path, b"{}", length=MAX_HEADER + 1)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a terabyte of nothing


HOSTILE = {
    "header longer than the file": lambda p: written(p, {"a": row(0, 8)}, bytes(8), 1 << 20),
    "header of 2^64 - 1": lambda p: written(p, {"a": row(0, 8)}, bytes(8), 2**64 - 1),
    "header above 100 MB in a sparse terabyte": announced,
    "overlap": lambda p: written(p, {"a": row(0, 8), "b": row(4, 12)}, bytes(12)),
    "the same bytes a thousand times": lambda p: written(
        p, {str(i): row(0, 8) for i in range(1000)}, bytes(8)
    ),
    "hole": lambda p: written(p, {"a": row(0, 8), "b": row(12, 20)}, bytes(20)),
    "wrong shape": lambda p: written(p, {"a": row(0, 8, (3,))}, bytes(8)),
    "a shape of a petabyte": lambda p: written(p, {"a": row(0, 8, (1 << 24, 1 << 24))}, bytes(8)),
    "a shape that wraps around at 2^64": lambda p: written(p, {"a": row(0, 0, (1 << 32, 1 << 32))}),
    "twice the same name": lambda p: written(
        p, b'{"a":%b,"a":%b}' % ((json.dumps(row(0, 8)).encode(),) * 2), bytes(8)
    ),
    "negative offsets": lambda p: written(p, {"a": row(-8, 0)}, bytes(8)),
    "backwards": lambda p: written(p, {"a": row(8, 0)}, bytes(8)),
    "beyond the end": lambda p: written(p, {"a": row(1 << 40, (1 << 40) + 8)}, bytes(8)),
    "no end of nesting": lambda p: written(p, b'{"a":' * 17_000),
    "a million tensors": lambda p: written(p, nothings(1_000_000)),
    "76,146 tensors in 4 MiB": lambda p: written(p, nothings(76_146)),
    "one tensor too many": lambda p: written(p, nothings(MAX_PARTS // 11 + 1)),
    "as many as may be, the last twice": lambda p: written(
        p, nothings(MAX_PARTS // 11 - 1, double=True)
    ),
    "4 MiB, the last name twice": lambda p: last_twice(p, 4 << 20),
    "as many names as may be, the last twice": lambda p: last_twice(p, 11 * (MAX_PARTS // 2 - 9)),
    "as long as may be, with a letter of four bytes": lambda p: written(
        p, ('{"\U0001f600":"' + "x" * (MAX_HEADER - 20) + '"}').encode()
    ),
    "lists of lists": lambda p: written(
        p, b'{"a":[' + b",".join([b"[[[[]]]]"] * (MAX_PARTS // 5 - 2)) + b"]}"
    ),
}
CHILD = """
import json, os, sys
from pathlib import Path
from llm_scratch.errors import UserError
from llm_scratch.loading import load

def refuse(folder):
    try:
        load(folder)
    except UserError as error:
        return error.code, str(error)

def resident(what):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))

refuse(sys.argv[1])  # everything is imported by now
for folder in sys.argv[2:]:
    if os.fork() == 0:  # each file meets a process that has read no other
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = resident("VmRSS")
        code, said = refuse(folder)
        print(json.dumps([code, said, resident("VmHWM") - before]), flush=True)
        os._exit(0)
    os.wait()
"""


def folder(path, make):
    """A folder of transformers with such weights."""
    path.mkdir()
    config = {
        "model_type": "gpt2",
        "vocab_size": 9,
        "n_positions": 4,
        "n_embd": 4,
        "n_head": 1,
        "n_layer": 1,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}})
    )
    make(path / "model.safetensors")
    return str(path)


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(),
    reason="the high-water mark of memory is read from Linux's /proc",
)
def test_f2_hostile_headers_are_refused_before_memory_is_allocated(tmp_path, measured):
    plain = folder(
        tmp_path / "plain", lambda path: safetensors.torch.save_file({"a": torch.ones(2)}, path)
    )
    folders = [folder(tmp_path / str(i), make) for i, make in enumerate(HOSTILE.values())]
    command = [sys.executable, "-c", CHILD, plain, *folders]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    largest = 0.0
    for name, line in zip(HOSTILE, done.stdout.splitlines(), strict=True):
        code, message, grown = json.loads(line)
        assert code == 4, name
        assert "model.safetensors" in message, name
        assert len(message) < 500, name
        assert grown <= MAX_GROWTH_BYTES, f"{name}: {grown:,} bytes"
        largest = max(largest, grown)
    measured(
        "F2",
        f"{len(HOSTILE)} of {len(HOSTILE)} refused; memory grows by at most {largest / 1e6:.0f} MB",
        f"all refused, growth at most {MAX_GROWTH_BYTES / 1e6:.0f} MB",
    )


def test_f2_hostile_headers_are_refused_in_one_pass(tmp_path, measured):
    most = 0
    for i, make in enumerate(HOSTILE.values()):
        where = folder(tmp_path / str(i), make)
        with at_most(lines=MAX_LINES, comparisons=MAX_PARTS) as effort, pytest.raises(UserError):
            load(where)
        most = max(most, effort.lines)
        Path(where, "model.safetensors").unlink()
    measured(
        "F2",
        f"{len(HOSTILE)} of {len(HOSTILE)} refused after at most {most:,} executed lines",
        f"at most {MAX_LINES:,} lines, one pass",
    )


def test_f2_headers_of_gpt2_xl_and_of_many_tensors_are_accepted(tmp_path):
    """Check the header of the hub's GPT-2 XL, with its masks, and the largest number of tensors."""
    xl = GPTConfig(emb_dim=1600, n_heads=25, n_layers=48, qkv_bias=True, tie_embeddings=True)
    with torch.device("meta"):
        state = build(xl).state_dict()
    shapes = {
        each.theirs.removeprefix(HF_PREFIX): tuple(each.join(state).shape)
        for each in expand(HF, 48)
    }
    shapes |= {f"h.{i}.attn.bias": (1, 1, 1024, 1024) for i in range(48)}
    text = json.dumps(
        {name: row(6_000_000_000, 6_100_000_000, shape) for name, shape in shapes.items()}
    )
    assert len(shapes) == 629
    assert len(text) < MAX_HEADER / 5
    assert sum(map(text.count, ",:[{")) < MAX_PARTS / 4
    written(tmp_path / "x.safetensors", {f"h.{i}": row(0, 0, (0, 4)) for i in range(3_000)})
    assert len(read_header(tmp_path / "x.safetensors")) == 3_000
