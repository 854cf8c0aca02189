"""Simulate how `open` differs on other systems."""

from __future__ import annotations

import builtins
import io
import os
from typing import Any

real_open = io.open


def change_open(
    hidden: tuple[str, ...] = (), encoding: str = "", newline: str | None = None
) -> None:
    """Change `open` for the whole process, pathlib included.

    Args:
        hidden: folders that this system does not have.
        encoding: of a text file whose encoding is not given.
        newline: what "\\n" becomes in a text file that is written; None leaves it.
    """

    def altered(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if isinstance(file, str | os.PathLike) and str(file).startswith(hidden):
            raise FileNotFoundError(2, "No such file or directory", str(file))
        if "b" not in mode and len(rest) < 3:
            options = dict(zip(("encoding", "errors", "newline"), rest)) | more
            if encoding and options.get("encoding") in (None, "locale"):
                options["encoding"] = encoding
            if newline and options.get("newline") is None and "r" not in mode:
                options["newline"] = newline
            rest, more = (), options
        return real_open(file, mode, buffering, *rest, **more)

    io.open = builtins.open = altered
