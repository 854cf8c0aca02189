"""F5: files that would unpack to far more than their size are refused unread.

No code here unpacks an archive.
"""

import ast
import gzip
import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from effort import at_most

import llm_scratch
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.loading import load

UNPACKERS = {"extract", "extractall", "unpack_archive", "decompress", "decompressobj"}
MODULES = {"tarfile", "gzip", "bz2", "lzma", "zlib", "shutil.unpack_archive"}
SRC = Path(llm_scratch.__file__).parent


def repacked(path, change, compression=zipfile.ZIP_STORED):
    """A torch file with a new archive, whose members `change` returns."""
    data = io.BytesIO()
    torch.save({"tok_emb.weight": torch.zeros(64, 64)}, data)
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name, content in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, content)


def overlapping(path):
    """One piece of data under many names: by its table of contents 200 times the file."""
    repacked(path, lambda members: members | {"archive/big": bytes(100_000)})
    data = path.read_bytes()
    end = data.rfind(b"PK\5\6")
    begin = data.find(b"PK\1\2")
    rows = data[begin:end].split(b"PK\1\2")[1:]
    big = b"PK\1\2" + next(row for row in rows if b"archive/big" in row)
    table = big * 200
    tail = bytearray(data[end:])
    tail[8:12] = (200).to_bytes(2, "little") * 2
    tail[12:16] = len(table).to_bytes(4, "little")
    path.write_bytes(data[:begin] + table + bytes(tail))


def sparse(path):
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(1 << 40)


def large_table(path):
    """64 MB of zeros that the last record declares as the table of contents."""
    sparse(path)
    end = b"PK\5\6" + bytes(8) + (64 << 20).to_bytes(4, "little") + bytes(6)
    with path.open("rb+") as file:
        file.truncate(100 << 20)
        file.seek(0, 2)
        file.write(end)


BOMBS = {
    "deflated zeros, 1000 to 1": lambda p: repacked(
        p, lambda m: m | {"archive/data/9": bytes(64 << 20)}, zipfile.ZIP_DEFLATED
    ),
    "deflated weights": lambda p: repacked(p, lambda m: m, zipfile.ZIP_DEFLATED),
    "bzip2": lambda p: repacked(
        p, lambda m: m | {"archive/data/9": bytes(8 << 20)}, zipfile.ZIP_BZIP2
    ),
    "lzma": lambda p: repacked(
        p, lambda m: m | {"archive/data/9": bytes(8 << 20)}, zipfile.ZIP_LZMA
    ),
    "10,001 members with short names": lambda p: repacked(
        p, lambda m: m | {f"archive/data/{i}": b"" for i in range(1, 10_002 - len(m))}
    ),
    "60,000 members": lambda p: repacked(
        p, lambda m: m | {f"archive/data/{i:060}": b"" for i in range(60_000)}
    ),
    "the same bytes 200 times": overlapping,
    "a sparse terabyte": sparse,
    "a table of contents of 64 MB": large_table,
    "gzip": lambda p: p.write_bytes(gzip.compress(bytes(64 << 20))),
    "a zip without an end": lambda p: p.write_bytes(b"PK\3\4" + bytes(1000)),
}


MAX_LINES = 20_000  # of Python: 200 members of an archive take 13,000, 10,000 would take 600,000


def test_f5_decompression_bombs_are_refused_unread(tmp_path, monkeypatch, measured):
    path = tmp_path / "model.pth"
    torch.save({}, path)
    with pytest.raises(UserError):  # everything is imported by now
        load(path)
    opened, torch_load = [], torch.load

    def noted_load(file, **more):
        opened.append(name)
        return torch_load(file, **more)

    monkeypatch.setattr(torch, "load", noted_load)
    for name, make in BOMBS.items():
        make(path)
        with (
            at_most(MAX_LINES),
            pytest.raises(UserError, match="is not a file of weights alone") as error,
        ):
            load(path)
        tracemalloc.start()
        with pytest.raises(UserError):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert error.value.code == CHECKPOINT, name
        assert peak <= 2 * min(path.stat().st_size, 16 << 20) + (1 << 20), name
        path.unlink()
    assert set(opened) == {"gzip"}, "torch's reader gets only files that are not archives"
    measured(
        "F5",
        f"{len(BOMBS)} of {len(BOMBS)} refused before unpacking",
        f"at most 2 x the announced size, {MAX_LINES:,} executed lines",
    )


def test_f5_tensor_larger_than_its_data_is_refused(tmp_path):
    many = torch.zeros(1).expand(
        1 << 20, 1 << 20
    )  # a terabyte by its shape, four bytes in the file
    torch.save({"tok_emb.weight": many}, tmp_path / "model.pth")
    with pytest.raises(
        UserError, match="tok_emb.weight has 1,099,511,627,776 elements but fewer values"
    ):
        load(tmp_path / "model.pth")


def test_f5_no_code_unpacks_an_archive():
    compresses = {
        "http_server.py": "gzip"
    }  # answers of the playground; `decompress` is refused there too
    found = []
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                found += [
                    f"{path.name}:{node.lineno} {name}"
                    for name in names
                    if name in MODULES and compresses.get(path.name) != name
                ]
            elif isinstance(node, ast.Attribute) and node.attr in UNPACKERS:
                found.append(f"{path.name}:{node.lineno} {node.attr}")
    assert not found, found
