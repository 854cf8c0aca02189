"""Plain files of torch.save are read for any version of torch; others are a one-line error.

Malicious ones are in tests/reliability.
"""

import pytest
import torch

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop import torch_file
from llm_scratch.interop.torch_file import MAX_TABLE, StateDictSource, check_version, read_torch

PLAIN = {
    "w": torch.arange(6.0).view(2, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "n": 3,
    "names": ["a", {"b": (1, None)}],
}


@pytest.mark.parametrize("zipped", [True, False])
def test_read_torch_loads_plain_content(tmp_path, zipped):
    torch.save(PLAIN, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = read_torch(tmp_path / "x.pth")
    assert torch.equal(found["w"], PLAIN["w"])
    assert found["half"].dtype == torch.bfloat16
    assert (found["n"], found["names"]) == (3, PLAIN["names"])


def test_large_file_with_many_tensors_is_accepted(tmp_path):
    torch.save({f"blocks.{i}.weight": torch.zeros(8) for i in range(3000)}, tmp_path / "x.pth")
    assert len(read_torch(tmp_path / "x.pth")) == 3000


def test_sparse_tensor_is_checked_before_it_is_returned(tmp_path):
    """torch does not check its indices by default, and torch 2.11 warns about that."""
    outside = torch.sparse_coo_tensor([[5]], [1.0], (2,), check_invariants=False)
    torch.save({"a": outside}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="is not a file of weights alone .*size is inconsistent"):
        read_torch(tmp_path / "x.pth")


def test_pickled_module_is_named_without_the_advice_of_torch(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    named = (
        r"is not a file of weights alone \(it contains a Python object,"
        r" torch.nn.modules.linear.Linear\); save only its"
    )
    with pytest.raises(UserError, match=named) as error:
        read_torch(tmp_path / "x.pth")
    assert str(error.value).isprintable()
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 50, 500, -1, -30])
def test_truncated_file_is_a_one_line_error(tmp_path, cut):
    path = tmp_path / "x.pth"
    torch.save(PLAIN, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match="is not a file of weights alone") as error:
        read_torch(path)
    assert error.value.code == CHECKPOINT
    assert "\n" not in str(error.value)


def test_too_long_table_of_contents_is_refused_unread(tmp_path):
    path = tmp_path / "x.pth"
    torch.save(PLAIN, path)
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 12 : end + 16] = (MAX_TABLE + 1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="its table of contents has 4,194,305 bytes"):
        read_torch(path)


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("2.9.1", False),
        ("1.13.0+cu117", False),
        ("2.10.0", True),
        ("2.13.0+cpu", True),
        ("3.0", True),
    ],
)
def test_vulnerable_torch_reads_no_untrusted_files(version, safe, tmp_path, monkeypatch):
    """The error names a version that reads them, and what works with this one."""
    path = tmp_path / "x.pth"
    torch.save(PLAIN, path)
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch_file, "check_version", check_version)
    if safe:
        assert read_torch(path)["n"] == 3
        return
    monkeypatch.setattr(torch, "load", lambda *args, **more: pytest.fail("it was opened"))
    with pytest.raises(UserError) as error:
        read_torch(path)
    message = str(error.value)
    assert error.value.code == CHECKPOINT
    assert message.startswith(
        f"{path}: torch {version} can be made to execute code in .pth and .pt files; "
    )
    assert "pip install -U 'torch>=2.10'" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1], "holds no state_dict"),
        ({1: torch.ones(1)}, "holds no state_dict"),
        ({"a": 1}, "a is not a plain tensor but int"),
        ({"a": torch.ones(2).to_sparse()}, "a is not a plain tensor"),
        ({"a": torch.ones(1).expand(9)}, "a has 9 elements but fewer values"),
    ],
)
def test_state_dict_source_rejects_other_content(tmp_path, state, message):
    with pytest.raises(UserError, match=message):
        StateDictSource(state, tmp_path / "x.pth")
