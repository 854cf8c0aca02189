"""What a command prints and where: `--json` and `--quiet`, for every command in one place.

With `--json` a command prints JSON on stdout and nothing else: whatever else it prints goes to
stderr. With `--quiet` it prints results, warnings and errors only. docs/json.md lists the keys of
each command.
Tests: tests/cli/test_output.py.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import PurePath
from typing import Any, TextIO


@dataclass
class OutputMode:
    """How the running command prints.

    Attributes:
        quiet: whether progress, headers and hints are left out.
        json_stream: where JSON goes; None without `--json`.
    """

    quiet: bool = False
    json_stream: TextIO | None = None


MODE = OutputMode()
"""of the command that runs in this process"""


@contextmanager
def output_mode(as_json: bool, quiet: bool) -> Iterator[None]:
    """Apply `--json` and `--quiet` to what is printed inside the block."""
    from llm_scratch.storage import download  # here: --help needs no HTTP client

    before = MODE.quiet, MODE.json_stream, download.SHOW_PROGRESS
    MODE.quiet = quiet
    MODE.json_stream = sys.stdout if as_json else None
    download.SHOW_PROGRESS = not quiet
    try:
        if as_json:
            with redirect_stdout(sys.stderr):
                yield
        else:
            yield
    finally:
        MODE.quiet, MODE.json_stream, download.SHOW_PROGRESS = before


def is_quiet() -> bool:
    """Whether the running command was called with `--quiet`."""
    return MODE.quiet


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on its own line on stdout, for a command that has `--json`.

    NaN and infinity, which JSON does not have, become null.
    """
    print(
        json.dumps(to_json(value), ensure_ascii=False, allow_nan=False),
        file=MODE.json_stream or sys.stdout,
        flush=True,
    )


def to_json(value: Any) -> Any:
    """A value as JSON has it: objects, text for paths, Python's numbers, None for NaN."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, PurePath):
        return to_json(str(value))
    if isinstance(value, Sequence):
        return [to_json(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
