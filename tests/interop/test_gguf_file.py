"""GGUF files are read as written; a broken one is a one-line error with file and entry."""

import struct

import pytest
import torch
from gguf_bytes import ARRAY, STRING, U32, T, gguf_bytes, text, value

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_file import MAX_ARRAY, MAX_TENSORS, MAX_VALUES, GGUFFile

F32 = struct.pack("<6f", 1, 2, 3, 4, 5, 6)


def array(kind, length, body=b""):
    return struct.pack("<IIQ", ARRAY, kind, length) + body


def test_gguf_values_and_tensors_are_read(tmp_path):
    path = tmp_path / "a.gguf"
    metadata = {
        "general.architecture": "gpt2",
        "n": 7,
        "eps": 0.5,
        "on": True,
        "names": ["a", "ü", ""],
        "sizes": [1, 2, 3],
        "wide": struct.pack("<IQ", 10, 2**40),
        "signed": struct.pack("<Iq", 11, -5),
    }
    half = torch.tensor([[1.5, -2.0]], dtype=torch.float16).numpy().tobytes()
    path.write_bytes(gguf_bytes(metadata, [T("x", (2, 3), data=F32), T("y", (1, 2), 1, data=half)]))
    file = GGUFFile(path)
    assert file.metadata == metadata | {"wide": 2**40, "signed": -5}
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {
        "x": (2, 3),
        "y": (1, 2),
    }
    assert file.read("x").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert file.read("y").tolist() == [[1.5, -2]]
    assert file.read("y").dtype == torch.float32


def test_gguf_files_of_the_gguf_package_are_read(tmp_path):
    gguf = pytest.importorskip("gguf", reason="the reference; install the gguf extra")
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_custom_alignment(64)
    writer.add_array("names", ["a", "b"])
    writer.add_float32("eps", 0.25)
    weights = torch.randn(3, 64).numpy()
    for name, kind in (("f", "F32"), ("q", "Q8_0"), ("b", "BF16")):
        writer.add_tensor(
            name,
            gguf.quantize(weights, gguf.GGMLQuantizationType[kind]),
            raw_dtype=gguf.GGMLQuantizationType[kind],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(path)
    assert file.metadata == {
        "general.architecture": "gpt2",
        "general.alignment": 64,
        "names": ["a", "b"],
        "eps": 0.25,
    }
    theirs = gguf.GGUFReader(path)
    for tensor in theirs.tensors:
        want = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
        assert torch.equal(file.read(tensor.name), want.reshape(3, 64))


BROKEN = {
    "an empty file": (b"", "it is empty"),
    "another format": (gguf_bytes(magic=b"GGML"), "begins with b'GGML'"),
    "a cut header": (gguf_bytes()[:10], "the header ends after the end"),
    "version 1": (gguf_bytes(version=1), "version 1 is not supported"),
    "big-endian": (gguf_bytes(version=3 << 24), "version 50331648 is not supported"),
    "2^64 - 1 tensors": (gguf_bytes(n_tensors=2**64 - 1), f"at most {MAX_TENSORS:,}"),
    "2^64 - 1 entries": (gguf_bytes(n_values=2**64 - 1), f"at most {MAX_VALUES:,}"),
    "more entries than there are": (
        gguf_bytes({"a": 1}, n_values=2),
        "the name of metadata entry 2 ends after the end",
    ),
    "more tensors than there are": (gguf_bytes(n_tensors=1), "the name of tensor 1 ends after"),
    "a key of 2^63 bytes": (
        gguf_bytes(struct.pack("<Q", 2**63)),
        "the name of metadata entry 1 has 9,223,372,036,854,775,808 bytes",
    ),
    "a key twice": (
        gguf_bytes(text("a") + value(1) + text("a") + value(2), n_values=2),
        "a occurs",
    ),
    "a key with a control character": (gguf_bytes({"a\x1b[31m": 1}), "entry 1 is not a plain name"),
    "a text beyond the end": (
        gguf_bytes({"a": struct.pack("<IQ", STRING, 1 << 40)}),
        "a has 1,099,511,627,776 bytes",
    ),
    "a text that is not UTF-8": (
        gguf_bytes({"a": struct.pack("<I", STRING) + text(b"\xff")}),
        "a is not UTF-8",
    ),
    "an unknown value": (gguf_bytes({"a": struct.pack("<I", 13)}), "a is of the unknown type 13"),
    "an array of arrays": (gguf_bytes({"a": array(ARRAY, 1)}), "a is an array of the type 9"),
    "an array longer than the file": (
        gguf_bytes({"a": array(U32, 1000)}),
        "a ends after the end of the file",
    ),
    "a list of texts longer than the file": (
        gguf_bytes({"a": array(STRING, 1000)}),
        "a ends after the end of the file",
    ),
    "an array of a trillion": (
        gguf_bytes({"a": array(U32, 10**12)}),
        f"a has 1,000,000,000,000 elements; at most {MAX_ARRAY:,}",
    ),
    "an alignment of 0": (gguf_bytes({"general.alignment": 0}, [T("x")]), "general.alignment is 0"),
    "an alignment of 24": (gguf_bytes({"general.alignment": 24}), "general.alignment is 24"),
    "an alignment of 2^31": (gguf_bytes({"general.alignment": 2**31}), "general.alignment is 2147"),
    "an alignment in words": (gguf_bytes({"general.alignment": "32"}), "general.alignment is .32."),
    "no dimensions": (gguf_bytes({}, [T("x", ())]), "x has 0 dimensions"),
    "five dimensions": (gguf_bytes({}, [T("x", (1,) * 5)]), "x has 5 dimensions"),
    "a dimension of 0": (
        gguf_bytes({}, [T("x", (2, 0))]),
        r"x is F32 \(2, 0\), which is impossible",
    ),
    "a product that wraps around": (
        gguf_bytes({}, [T("x", (1 << 32, 1 << 32))]),
        "x is F32 .*, which is impossible",
    ),
    "half a block": (gguf_bytes({}, [T("x", (2, 40), 8)]), r"x is Q8_0 \(2, 40\)"),
    "an unknown type": (gguf_bytes({}, [T("x", (2, 3), 99)]), "x is of the type number 99"),
    "a type that is not supported": (gguf_bytes({}, [T("x", (2, 256), 10)]), "type number 10"),
    "a tensor twice": (gguf_bytes({}, [T("x"), T("x")]), "the tensor x occurs twice"),
    "a name too long": (gguf_bytes({}, [T("x" * 65)]), "the name of tensor 1 has 65 bytes"),
    "an overlap": (gguf_bytes({}, [T("x"), T("y", offset=0)]), "y begins at byte 0"),
    "a hole": (gguf_bytes({}, [T("x"), T("y", offset=64)]), "y begins at byte 64"),
    "an offset that is not aligned": (gguf_bytes({}, [T("x", offset=4)]), "x begins at byte 4"),
    "a tensor beyond the end": (gguf_bytes({}, [T("x", data=F32[:-1])]), "x has 24 bytes"),
    "values after the last tensor": (gguf_bytes({}, [T("x")], tail=bytes(40)), "40 bytes follow"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_gguf_file_is_refused(name, tmp_path):
    data, reason = BROKEN[name]
    path = tmp_path / "broken.gguf"
    path.write_bytes(data)
    with pytest.raises(UserError, match=reason) as caught:
        GGUFFile(path)
    assert caught.value.code == CHECKPOINT
    message = str(caught.value)
    assert message.count("broken.gguf") == 1
    assert "\n" not in message
    assert message.isprintable()


def test_missing_gguf_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            GGUFFile(path)
