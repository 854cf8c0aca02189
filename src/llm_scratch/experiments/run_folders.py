"""Where an experiment keeps its runs: `seed-1/ARM` for each, and `arms/ARM.yaml` for its settings.

Tests: tests/experiments/test_runner.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from llm_scratch.errors import UserError

MAX_NAME = 80
"""Characters of a folder's name."""


def folder_name(arm: str) -> str:
    """The name of an arm's folders: letters, digits and `.=+-`; a hash ends a long one."""
    name = re.sub(r"[^\w.=+-]+", "_", arm).strip("._") or "arm"
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(arm.encode()).hexdigest()[:8]}"


def check_folder_names(names: Iterable[str]) -> None:
    """Check that every arm gets its own folder, on case-insensitive file systems too.

    Raises:
        UserError: two arms would share one.
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(folder_name(name).casefold(), name)
        if other != name:
            raise UserError(
                f"arms {other!r} and {name!r}: would share the folder {folder_name(name)};"
                " rename one of them"
            )


def run_folder(folder: Path, arm: str, seed: int) -> Path:
    """The run directory of an arm and a seed."""
    return folder / f"seed-{seed}" / folder_name(arm)


def settings_file(folder: Path, arm: str) -> Path:
    """The file with the settings of an arm's runs."""
    return folder / "arms" / f"{folder_name(arm)}.yaml"
