"""Read torch.save files safely: weights only, without executing their pickle.

torch's weights-only loader allows the few calls that tensors need and rejects all others; there is
no fallback. Before it, a zip that unpacks to more than its size is rejected, and after it, a tensor
with more elements than its data.
Tests: tests/interop/test_torch_file.py,
tests/reliability/test_f01_pickles.py and test_f05_bombs.py.
Source: https://docs.python.org/3/library/pickle.html, the warning at the top;
https://docs.pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.storage.safe_parse import first_duplicate_key

SAFE_SINCE = (2, 10)
"""First torch version whose weights-only loader is safe (CVE-2025-32434, CVE-2026-24747)."""
# bytes of a zip's table of contents, and rows in it; GPT-2 XL: 60 kB, 600
MAX_TABLE, MAX_MEMBERS = 4 << 20, 10_000
WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Name components added by torch.compile, DDP, FSDP and activation checkpointing, at any depth."""
FIX = "save only its state_dict, or convert it to safetensors on a machine that trusts it"


def read_torch(path: Path) -> Any:
    """Load a file of torch.save that has only tensors, numbers, strings, lists and dicts.

    Raises:
        UserError: other content, or torch is too old to load it safely (code 4).
    """
    check_version(torch.__version__, path)
    try:
        _check_zip(path)
        # torch does not check them by default
        with torch.sparse.check_sparse_tensor_invariants(), warnings.catch_warnings():
            # torch 2.15 warns about its cost
            warnings.filterwarnings("ignore", "Validating sparse tensor invariants")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as e:  # the loader raises many unrelated types
        raise UserError(
            f"{path} is not a file of weights alone ({_reason(e)}); {FIX}", CHECKPOINT
        ) from e


def _reason(error: Exception) -> str:
    """Describe a loading error, without torch's advice to disable its safe loader."""
    if not isinstance(error, pickle.UnpicklingError):
        return describe_error(error)
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    if match:
        return f"it contains a Python object, {match[1]}"
    return "it contains more than tensors, or is damaged"


def check_version(version: str, path: Path) -> None:
    """Reject untrusted files if torch's weights-only loader has known vulnerabilities.

    Raises:
        UserError: torch is too old (code 4).
    """
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_SINCE:
        need = ".".join(map(str, SAFE_SINCE))
        raise UserError(
            f"{path}: torch {version} can be made to execute code in .pth and .pt files;"
            f" update it with pip install -U 'torch>={need}', or use a safetensors file",
            CHECKPOINT,
        )


def _check_zip(path: Path) -> None:
    """Reject compressed or oversized archives: torch.save stores its data uncompressed."""
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
        raise ValueError(
            f"its table of contents has {table:,} bytes" if end >= 0 else "a zip without an end"
        )
    with path.open("rb") as file:
        file.seek(max(0, size - table - (1 << 16)))
        if (many := file.read().count(b"PK\1\2")) > MAX_MEMBERS:  # the head of a row
            raise ValueError(f"a zip of {many:,} members; expected at most {MAX_MEMBERS:,}")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if packed := [
        member.filename for member in members if member.compress_type != zipfile.ZIP_STORED
    ]:
        raise ValueError(f"{packed[0][:60]} is compressed, which torch does not do")
    if (total := sum(member.file_size for member in members)) > size:
        raise ValueError(f"a zip of {size:,} bytes that unpacks to {total:,}")


def unwrapped_name(name: str) -> str:
    """Remove wrappers from a name: "module._orig_mod.out_head.weight" -> "out_head.weight"."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def unwrapped_names(names: Iterable[str], path: Path) -> dict[str, str]:
    """Map each name of a state_dict to the name without wrappers.

    Raises:
        UserError: two names differ only by a wrapper, so one tensor would be lost (code 4).
    """
    plain = {name: unwrapped_name(name) for name in names}
    if (double := first_duplicate_key(plain.values())) is not None:
        raise UserError(
            f"{path}: {double[:80]} is repeated, with and without the name of a wrapper", CHECKPOINT
        )
    return plain


class StateDictSource:
    """A dict of tensors as a source (see `gpt2_weight_map.Source`).

    Args:
        state: name -> tensor.
        path: the file, for errors.
    Raises:
        UserError: not a dict of tensors, an unsupported kind of tensor,
            or one larger than its data (code 4).
    """

    def __init__(self, state: Any, path: Path) -> None:
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise UserError(f"{path} holds no state_dict; expected names and tensors", CHECKPOINT)
        for name, tensor in state.items():
            if (
                type(tensor) not in (Tensor, torch.nn.Parameter)
                or tensor.layout != torch.strided
                or tensor.is_quantized
            ):
                raise UserError(
                    f"{path}: {name[:80]} is not a plain tensor but {type(tensor).__name__}",
                    CHECKPOINT,
                )
            if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
                raise UserError(
                    f"{path}: {name[:80]} has {tensor.numel():,} elements but fewer values",
                    CHECKPOINT,
                )
        plain = unwrapped_names(state, path)
        self.tensors: dict[str, Tensor] = {
            plain[name]: tensor.detach() for name, tensor in state.items()
        }

    def read(self, name: str) -> Tensor:
        """Read a tensor."""
        return self.tensors[name]
