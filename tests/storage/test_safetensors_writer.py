"""The written bytes equal those of the safetensors library."""

import pytest
import safetensors.torch
import torch

from llm_scratch.storage.safetensors_writer import DTYPES, iter_bytes

TENSORS = {
    **{f"of {dtype}": torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES},
    "a scalar": torch.tensor(2.5),
    "no rows": torch.zeros(0, 3),
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
    "every second": torch.arange(12.0)[::2],
    "a parameter": torch.nn.Parameter(torch.ones(2)),
    'ž "quoted"': torch.ones(1),
}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
@pytest.mark.parametrize(
    "names", [list(TENSORS), list(TENSORS)[:1], list(TENSORS)[::-1], []], ids=len
)
def test_safetensors_writer_equals_the_library(names, metadata):
    tensors = {name: TENSORS[name] for name in names}
    want = safetensors.torch.save(
        {name: t.detach().contiguous() for name, t in tensors.items()}, metadata
    )
    assert b"".join(iter_bytes(tensors, metadata)) == want


def test_safetensors_library_reads_written_file():
    found = safetensors.torch.load(b"".join(iter_bytes(TENSORS)))
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_iter_bytes_rejects_an_unsupported_dtype():
    with pytest.raises(TypeError, match=r"phase is torch\.complex128"):
        list(iter_bytes({"phase": torch.zeros(1, dtype=torch.complex128)}))


def test_iter_bytes_does_not_copy_a_contiguous_tensor():
    weight = torch.zeros(1000)
    _, piece = iter_bytes({"w": weight})
    weight[0] = 1.0
    assert bytes(piece[:4]) == b"\x00\x00\x80\x3f", "a copy was made"
