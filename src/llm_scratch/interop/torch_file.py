"""Files that torch.save wrote, read as numbers and names alone: a pickle is a program, and this one is never run.

torch's weights-only reader knows the few calls that tensors need and refuses every other; there is no second try without it. Before it,
a zip that unpacks to more than it is long is refused, and after it, a tensor that claims more numbers than it brings.
Tests: tests/interop/test_torch_file.py, tests/reliability/test_f01_pickles.py and test_f05_bombs.py.
Source: https://docs.python.org/3/library/pickle.html, the warning at the top; https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.storage.safe_parse import first_duplicate_key

SAFE_SINCE = (2, 10)
"""The first torch whose weights-only reader has no known hole (CVE-2025-32434, CVE-2026-24747)."""
MAX_TABLE, MAX_MEMBERS = 4 << 20, 10_000  # bytes of a zip's table of contents, and rows in it; GPT-2 XL: 60 kB, 600
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""What stands in names of torch.compile, DDP, FSDP and activation checkpointing, at any depth."""
WHAT_TO_DO = "save its state_dict alone, or convert it to safetensors where you trust it"


def read_torch(path: Path) -> Any:
    """What is in a file of torch.save, if that is tensors, numbers, texts, lists and dicts.

    Raises:
        UserError: it is not, or torch is too old to tell (code 4).
    """
    check_version(torch.__version__, path)
    try:
        _check_zip(path)
        with torch.sparse.check_sparse_tensor_invariants():  # by default torch trusts their indices
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as e:  # the reader's own errors differ by what is wrong with the file
        raise UserError(f"{path} is not a file of weights alone ({_reason(e)}); {WHAT_TO_DO}", CHECKPOINT) from e


def _reason(error: Exception) -> str:
    """Why torch does not read a file; its own advice, to switch its safe reader off, is left out."""
    if not isinstance(error, pickle.UnpicklingError):
        return describe_error(error)
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it holds a Python object, {found[1]}" if found else "it holds more than tensors, or is damaged"


def check_version(version: str, path: Path) -> None:
    """Refuse to read a stranger's file with a torch whose reader has known holes; it is new enough for all the rest.

    Raises:
        UserError: too old (code 4).
    """
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_SINCE:
        need = ".".join(map(str, SAFE_SINCE))
        raise UserError(
            f"{path} is read by torch {need} or newer alone: older ones can be made to run what is in such a file. Here is {version}, "
            f"which does for everything but .pth and .pt files: pip install -U 'torch>={need}', or take the model as safetensors",
            CHECKPOINT,
        )


def _check_zip(path: Path) -> None:
    """Refuse an archive that would unpack to more than it is: torch keeps its numbers as they are."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 16)))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if (table := int.from_bytes(tail[end + 12 : end + 16], "little")) == 0xFFFFFFFF:
        table = int.from_bytes(tail[(far := tail.rfind(b"PK\6\6")) + 40 : far + 48], "little")
    if end < 0 or table > MAX_TABLE:
        raise ValueError(f"its table of contents has {table:,} bytes" if end >= 0 else "a zip without an end")
    with path.open("rb") as file:
        file.seek(max(0, size - table - (1 << 16)))
        if (many := file.read().count(b"PK\1\2")) > MAX_MEMBERS:  # the head of a row
            raise ValueError(f"a zip of {many:,} members; expected at most {MAX_MEMBERS:,}")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if packed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0][:60]} is compressed, which torch does not do")
    if (total := sum(member.file_size for member in members)) > size:
        raise ValueError(f"a zip of {size:,} bytes that unpacks to {total:,}")


def unwrapped_name(name: str) -> str:
    """A tensor's name as the model itself has it: "module._orig_mod.out_head.weight" is "out_head.weight"."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def unwrapped_names(names: Iterable[str], path: Path) -> dict[str, str]:
    """Each name of a state_dict and what it is without wrappers.

    Raises:
        UserError: two names differ by a wrapper alone, so that one of them would be lost (exit code 4).
    """
    plain = {name: unwrapped_name(name) for name in names}
    if (double := first_duplicate_key(plain.values())) is not None:
        raise UserError(f"{path}: {double[:80]} is there twice, with a wrapper's name before it and without", CHECKPOINT)
    return plain


class StateDictSource:
    """A dict of tensors as a table that is read from (see gpt2_table.Source).

    Args:
        state: name -> tensor.
        path: the file, for errors.
    Raises:
        UserError: it is something else, or a tensor is not plain numbers, or claims more of them than it brings (code 4).
    """

    def __init__(self, state: Any, path: Path) -> None:
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise UserError(f"{path} holds no state_dict; expected names and tensors", CHECKPOINT)
        for name, tensor in state.items():
            if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
                raise UserError(f"{path}: {name[:80]} is no plain tensor but {type(tensor).__name__}", CHECKPOINT)
            if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
                raise UserError(f"{path}: {name[:80]} claims {tensor.numel():,} numbers and does not bring them", CHECKPOINT)
        plain = unwrapped_names(state, path)
        self.tensors: dict[str, Tensor] = {plain[name]: tensor.detach() for name, tensor in state.items()}

    def read(self, name: str) -> Tensor:
        """One tensor."""
        return self.tensors[name]
