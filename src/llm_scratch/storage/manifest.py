"""The manifest of a checkpoint folder: size and sha256 of every file in it, and of the manifest itself.

safetensors notices one flipped bit in a hundred, and no block of zeros at a file's end; the manifest notices all.
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

FORMAT = 2
"""2: the manifest holds the sha256 of itself. 1, which is read too: it does not."""


def as_json(data: Any) -> bytes:
    """Plain data as the bytes of a file that people can read."""
    return json.dumps(data, indent=1).encode()


def write_hashed(path: Path, pieces: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write a file piece by piece; returns what the manifest says about it."""
    digest, size = hashlib.sha256(), 0

    def hashed() -> Iterator[bytes | memoryview]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    files.filesystem.write(path, hashed())
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_manifest(folder: Path, step: int, written: dict[str, dict[str, Any]]) -> None:
    """Write the manifest over every file of the folder, and see that all of it has reached the disk."""
    for path in folder.iterdir():
        if path.name not in written:  # the tokenizer's, which were not hashed while they were written
            files.filesystem.flush(path)
            written[path.name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = {"format": FORMAT, "step": step, "files": dict(sorted(written.items()))}
    files.filesystem.write(folder / "manifest.json", [_with_hash(manifest)])
    files.filesystem.flush(folder)


def _with_hash(manifest: dict[str, Any]) -> bytes:
    """A manifest as its file holds it, with the sha256 of the rest at its end."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return as_json(rest | {"sha256": hashlib.sha256(as_json(rest)).hexdigest()})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, skip: Collection[str] = ()) -> str | None:
    """What is wrong with a checkpoint folder, in words, or None: every file there, of the size and sha256 that the manifest says.

    Args:
        folder: the checkpoint.
        skip: names of files that are not read, such as the weights where only the settings matter.
    Raises:
        UserError: nothing is, but a newer version of this program wrote it (code 4).
    """
    try:
        text = (folder / "manifest.json").read_bytes()
        manifest = json.loads(text)
        if manifest["format"] != 1 and text != _with_hash(manifest):
            return "manifest.json is not what was written (its sha256 differs)"
        if manifest["format"] > FORMAT:
            newer = f"has format {manifest['format']}, which is newer than this program (it reads 1 to {FORMAT})"
            raise UserError(f"checkpoint {folder} {newer}; update this program: git pull, then pip install -e . in its folder", CHECKPOINT)
        if folder.name.startswith("step-") and folder.name != f"step-{manifest['step']:08d}":
            return f"it is the checkpoint of step {manifest['step']}"
        promised = {str(name): (said["bytes"], said["sha256"]) for name, said in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return f"manifest.json cannot be read ({type(e).__name__})"
    try:
        if extra := {p.name for p in folder.iterdir()} - set(promised) - {"manifest.json"}:
            return f"{sorted(extra)[0]} does not belong to it"
        return next((wrong for name, said in promised.items() if name not in skip and (wrong := _difference(folder / name, *said))), None)
    except OSError as e:
        return f"{Path(e.filename or folder).name} cannot be read ({e.strerror})"


def _difference(path: Path, size: int, digest: str) -> str | None:
    """What is wrong with one file."""
    if not path.is_file():
        return f"{path.name} is missing"
    if path.stat().st_size != size:
        return f"{path.name} has {path.stat().st_size} bytes instead of {size}"
    if _sha256(path) != digest:
        return f"{path.name} is not what was written (its sha256 differs)"
    return None
