"""F2: hostile safetensors files are refused at once, before they are given memory. CPU time is measured, as the machine may be busy."""

import json
import struct
import time
import tracemalloc

import pytest
import safetensors.torch
import torch

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.safetensors import MAX_HEADER
from llm_scratch.loading import load


def row(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def written(path, head, data=b"", length=None):
    text = head if isinstance(head, bytes) else json.dumps(head, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def million(path):
    body = b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(1_000_000))
    written(path, b"{" + body + b"}")


def announced(path):
    written(path, b"{}", length=MAX_HEADER + 1)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # a terabyte of nothing


HOSTILE = {
    "header longer than the file": lambda p: written(p, {"a": row(0, 8)}, bytes(8), 1 << 20),
    "header of 2^64 - 1": lambda p: written(p, {"a": row(0, 8)}, bytes(8), 2**64 - 1),
    "header above 100 MB in a sparse terabyte": announced,
    "overlap": lambda p: written(p, {"a": row(0, 8), "b": row(4, 12)}, bytes(12)),
    "the same bytes a thousand times": lambda p: written(p, {str(i): row(0, 8) for i in range(1000)}, bytes(8)),
    "hole": lambda p: written(p, {"a": row(0, 8), "b": row(12, 20)}, bytes(20)),
    "wrong shape": lambda p: written(p, {"a": row(0, 8, (3,))}, bytes(8)),
    "a shape of a petabyte": lambda p: written(p, {"a": row(0, 8, (1 << 24, 1 << 24))}, bytes(8)),
    "a shape that wraps around at 2^64": lambda p: written(p, {"a": row(0, 0, (1 << 32, 1 << 32))}),
    "twice the same name": lambda p: written(p, b'{"a":%b,"a":%b}' % ((json.dumps(row(0, 8)).encode(),) * 2), bytes(8)),
    "negative offsets": lambda p: written(p, {"a": row(-8, 0)}, bytes(8)),
    "backwards": lambda p: written(p, {"a": row(8, 0)}, bytes(8)),
    "beyond the end": lambda p: written(p, {"a": row(1 << 40, (1 << 40) + 8)}, bytes(8)),
    "no end of nesting": lambda p: written(p, b'{"a":' * 300_000),
    "a million tensors": million,
}


@pytest.fixture
def folder(tmp_path):
    """A folder of transformers whose weights are to be replaced."""
    config = {"model_type": "gpt2", "vocab_size": 9, "n_positions": 4, "n_embd": 4, "n_head": 1, "n_layer": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "chars", "characters": "abc"}}))
    return tmp_path


def test_f2_hostile_headers_are_refused_at_once(folder, measured):
    safetensors.torch.save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="is missing"):  # everything is imported now
        load(folder)
    slowest, largest = 0.0, 0.0
    for name, make in HOSTILE.items():
        path = folder / "model.safetensors"
        path.unlink()
        make(path)
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(UserError) as error:
            load(folder)
        slowest = max(slowest, time.process_time() - began)
        share = tracemalloc.get_traced_memory()[1] / max(path.stat().st_size + (64 << 10), 1 << 20)  # the interpreter's own objects aside
        tracemalloc.stop()
        largest = max(largest, share)
        assert error.value.code == CHECKPOINT, name
        assert "model.safetensors" in str(error.value), name
        assert len(str(error.value)) < 500, name
        assert share <= 2, name
    assert slowest <= 1
    measured("F2", f"{len(HOSTILE)} of {len(HOSTILE)} refused, memory at most {largest:.1f} x the file", "all, within 1 s, at most 2 x")
