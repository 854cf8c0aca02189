"""Safetensors files are read as the library reads them; an invalid header is refused."""

import json
import struct

import pytest
import safetensors.torch
import torch

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.safetensors import DTYPES, TensorFiles, files_of, plain_name, read_header

TENSORS = {
    **{f"of {name}": torch.arange(6).reshape(2, 3).to(dtype) for name, dtype in DTYPES.items()},
    "a scalar": torch.tensor(2.5),
    "no rows": torch.zeros(0, 3),
    'ž "quoted"': torch.ones(1),
}


def test_safetensors_reader_equals_the_library(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(TENSORS, path, {"format": "pt"})
    source, want = TensorFiles([path]), safetensors.torch.load_file(path)
    assert source.tensors.keys() == want.keys()
    for name, tensor in want.items():
        found = source.read(name)
        assert (
            (found.dtype, found.shape)
            == (source.tensors[name].dtype, source.tensors[name].shape)
            == (tensor.dtype, tensor.shape)
        )
        assert torch.equal(found, tensor)


def file(path, head, data=b"", length=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def row(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


BAD = {
    "empty": (b"", b"", "a header of .* bytes does not fit", {"length": 9}),
    "header longer than the file": (
        {"a": row(0, 8)},
        bytes(8),
        "does not fit a file of",
        {"length": 10**6},
    ),
    "header of 2^63": (b"{}", b"", "does not fit a file of", {"length": 2**63}),
    "no JSON": (b"{a}", b"", "is not JSON", {}),
    "a list": (b"[]", b"", "is not a JSON object", {}),
    "twice": (
        b'{"a":%b,"a":%b}' % ((json.dumps(row(0, 8)).encode(),) * 2),
        bytes(8),
        "duplicate key 'a'",
        {},
    ),
    "overlap": (
        {"a": row(0, 8), "b": row(4, 12)},
        bytes(12),
        "b begins at byte 4, the one before ends at 8",
        {},
    ),
    "the same place": (
        {"a": row(0, 8), "b": row(0, 8)},
        bytes(8),
        "begins at byte 0, the one before ends at 8",
        {},
    ),
    "hole": ({"a": row(0, 8), "b": row(12, 20)}, bytes(20), "b begins at byte 12", {}),
    "hole before": ({"a": row(4, 12)}, bytes(12), "a begins at byte 4", {}),
    "beyond the end": ({"a": row(0, 8)}, bytes(4), "its tensors have 8 bytes, the file has 4", {}),
    "more than tensors": (
        {"a": row(0, 8)},
        bytes(9),
        "its tensors have 8 bytes, the file has 9",
        {},
    ),
    "another shape": (
        {"a": row(0, 8, (3,))},
        bytes(8),
        r"a is F32 \(3,\), which takes 12 bytes, and has 8",
        {},
    ),
    "backwards": ({"a": row(8, 0)}, bytes(8), "which is impossible", {}),
    "below 0": ({"a": row(-8, 0)}, bytes(8), "which is impossible", {}),
    "a shape below 0": ({"a": row(0, 8, (-2,))}, bytes(8), "which is impossible", {}),
    "two below 0": ({"a": row(0, 8, (-1, -2))}, bytes(8), "which is impossible", {}),
    "huge numbers": ({"a": row(0, 8, (10**300,))}, bytes(8), "which is impossible", {}),
    "product of huge": ({"a": row(0, 8, (2**47,) * 8)}, bytes(8), "which takes", {}),
    "many dimensions": ({"a": row(0, 4, (1,) * 1000)}, bytes(4), "which is impossible", {}),
    "half a number": ({"a": row(0, 8, (2.0,))}, bytes(8), "which is impossible", {}),
    "true": ({"a": row(0, 4, (True,))}, bytes(4), "which is impossible", {}),
    "no dtype": (
        {"a": {"shape": [], "data_offsets": [0, 4]}},
        bytes(4),
        "a has no dtype, shape and data_offsets",
        {},
    ),
    "three places": (
        {"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 2, 4]}},
        bytes(4),
        "a has no dtype",
        {},
    ),
    "a text": ({"a": "b"}, bytes(4), "a has no dtype", {}),
    "unknown dtype": ({"a": row(0, 8, dtype="F7")}, bytes(8), "a holds F7; known are I64", {}),
    "a dtype of lists": ({"a": row(0, 8, dtype="x")}, bytes(8), "a holds x", {}),
}


@pytest.mark.parametrize("fault", BAD)
def test_header_that_does_not_fit_is_refused(tmp_path, fault):
    head, data, message, more = BAD[fault]
    path = file(tmp_path / "x.safetensors", head, data, **more)
    with pytest.raises(UserError, match=message) as error:
        read_header(path)
    assert error.value.code == CHECKPOINT
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


def test_safetensors_file_cut_after_its_header_was_read_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.ones(100)}, path)
    source = TensorFiles([path])
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match="a ends after 392 of 400 bytes"):
        source.read("a")


def test_safetensors_file_of_a_wrong_length_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.ones(20), "b": torch.ones(3)}, path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError):
            read_header(path)


def test_several_files_are_those_that_the_index_names(tmp_path):
    for i in (1, 2):
        safetensors.torch.save_file(
            {f"t{i}": torch.full((2,), i)}, tmp_path / f"model-{i}.safetensors"
        )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"t1": "model-1.safetensors", "t2": "model-2.safetensors"}})
    )
    source = TensorFiles(files_of(tmp_path))
    assert [source.read(name).tolist() for name in ("t1", "t2")] == [[1, 1], [2, 2]]
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-2\.safetensors is missing"):
        files_of(tmp_path)
    safetensors.torch.save_file({"t1": torch.ones(2)}, tmp_path / "model-2.safetensors")
    with pytest.raises(UserError, match=r"t1 is in model-1\.safetensors too"):
        TensorFiles(files_of(tmp_path))
    for text in ("{}", '{"weight_map": {}}', '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(UserError, match="has no weight_map"):
            files_of(tmp_path)


def test_missing_files_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        files_of(tmp_path)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00002.safetensors", "a.b_c.safetensors"]
)
def test_safetensors_index_accepts_plain_file_names(name):
    assert plain_name(name, "index") == name
