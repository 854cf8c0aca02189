"""The manifest of a checkpoint folder: size and SHA-256 of every file, and of the manifest itself.

safetensors detects one flipped bit in a hundred, and no block of zeros at the end of a file; the
manifest detects all.
Tests: tests/storage/test_checkpoint.py, tests/reliability/test_r03_damage.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage import files

FORMAT = 3
"""The format of checkpoints that are written; `older_formats` lists all, and reads the others."""


def as_json(data: Any) -> bytes:
    """Serialize plain data as indented JSON."""
    return json.dumps(data, indent=1).encode()


def write_hashed(path: Path, pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file piece by piece; returns its entry for the manifest."""
    digest = hashlib.sha256()
    size = 0

    def hashed() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    files.filesystem.write(path, hashed())
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_manifest(folder: Path, step: int, written: dict[str, dict[str, Any]]) -> None:
    """Write the manifest of all files of a folder, and flush everything to disk."""
    for path in folder.iterdir():
        if path.name not in written:  # the tokenizer, written without `write_hashed`
            files.filesystem.flush(path)
            written[path.name] = {"bytes": path.stat().st_size, "sha256": files.sha256_of(path)}
    manifest = {"format": FORMAT, "step": step, "files": dict(sorted(written.items()))}
    files.filesystem.write(folder / "manifest.json", [_with_hash(manifest)])
    files.filesystem.flush(folder)


def _with_hash(manifest: dict[str, Any]) -> bytes:
    """Serialize a manifest with the SHA-256 of the rest at its end."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return as_json(rest | {"sha256": hashlib.sha256(as_json(rest)).hexdigest()})


def format_of(folder: Path) -> int:
    """The format of a verified checkpoint folder."""
    return int(json.loads((folder / "manifest.json").read_bytes())["format"])


def verify(folder: Path, skip: Collection[str] = ()) -> str | None:
    """Verify a checkpoint folder against its manifest; returns the problem, or None.

    Args:
        folder: the checkpoint.
        skip: names of files not to read, such as the weights if only the settings matter.
    Raises:
        UserError: intact, but written by a newer version of this program (code 4).
    """
    try:
        text = (folder / "manifest.json").read_bytes()
        manifest = json.loads(text)
        has_hash = manifest["format"] != 1 or "sha256" in manifest  # a flipped bit makes a 3 a 1
        if has_hash and text != _with_hash(manifest):
            return "manifest.json changed since it was written (its sha256 differs)"
        if manifest["format"] > FORMAT:
            newer = (
                f"has format {manifest['format']},"
                f" which is newer than this program (it reads 1 to {FORMAT})"
            )
            raise UserError(
                f"checkpoint {folder} {newer};"
                " update this program: git pull, then pip install -e . in its folder",
                CHECKPOINT,
            )
        if folder.name.startswith("step-") and folder.name != f"step-{manifest['step']:08d}":
            return f"it is the checkpoint of step {manifest['step']}"
        expected = {
            str(name): (entry["bytes"], entry["sha256"])
            for name, entry in manifest["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return f"manifest.json cannot be read ({type(e).__name__})"
    try:
        extra = {p.name for p in folder.iterdir()} - set(expected) - {"manifest.json"}
        if extra:
            return f"{sorted(extra)[0]} is not in the manifest"
        for name, (size, digest) in expected.items():
            problem = None if name in skip else _difference(folder / name, size, digest)
            if problem:
                return problem
        return None
    except OSError as e:
        return f"{Path(e.filename or folder).name} cannot be read ({e.strerror})"


def _difference(path: Path, size: int, digest: str) -> str | None:
    """Describe how a file differs from its manifest entry; None if it does not."""
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size:
        return f"{path.name} has {path.stat().st_size} bytes instead of {size}"
    if files.sha256_of(path) != digest:
        return f"{path.name} changed since it was written (its sha256 differs)"
    return None
