"""Where checkpoints are: `ckpt/step-00001000/`, and the text files `latest` and `best`.

Imports no torch, so that a run can be listed and described at once.
Tests: tests/storage/test_checkpoint.py.
"""

from __future__ import annotations

from pathlib import Path


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    folders = (path for path in (run / "ckpt").glob("step-*") if path.is_dir())
    return sorted((path for path in folders if path.name[5:].isdigit()), reverse=True)


def resolve_pointer(run: Path, pointer: str) -> str | None:
    """The name of the checkpoint that `ckpt/latest` or `ckpt/best` names; None without the file."""
    try:
        return (run / "ckpt" / pointer).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
