"""Simulate Windows' open files: one that is open or mapped cannot be removed or renamed.

The folders above it cannot either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from text_files import real_open


def open_paths() -> Iterator[str]:
    """Every file that this process has open or mapped."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of listdir itself
            yield os.readlink(f"/proc/self/fd/{number}")
    with real_open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            yield line.rstrip("\n").split(maxsplit=5)[-1]


def refuse_if_open(path: Any, folder: int | None = None) -> None:
    name = os.fspath(path)
    if folder is not None:
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    name = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
    if any(each == name or each.startswith(f"{name}/") for each in open_paths()):
        message = "The process cannot access the file because it is being used by another process"
        raise PermissionError(13, message, name)


def protect_open_files() -> None:
    """Change the functions of `os` that remove or rename."""

    def protected(function: Any, n_paths: int) -> Any:
        def altered(*paths: Any, dir_fd: int | None = None, **more: Any) -> None:
            for path in paths[:n_paths]:
                refuse_if_open(path, dir_fd)
            if dir_fd is not None:
                more["dir_fd"] = dir_fd
            return function(*paths, **more)

        return altered

    for name, n_paths in (
        ("remove", 1),
        ("unlink", 1),
        ("rmdir", 1),
        ("rename", 2),
        ("replace", 2),
    ):
        setattr(os, name, protected(getattr(os, name), n_paths))
