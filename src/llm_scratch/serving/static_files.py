"""The files of the playground's page, read from the package: URL path -> content.

Tests: tests/serving/test_http_server.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from llm_scratch.serving.http_server import StaticFile

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}


def static_files() -> Mapping[str, StaticFile]:
    """Every file of the page; "/" is index.html."""
    by_path: dict[str, StaticFile] = {}

    def add(folder: Traversable, path: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                add(entry, f"{path}{entry.name}/")
            elif entry.name.rpartition(".")[2] in MEDIA_TYPES:
                by_path[path + entry.name] = StaticFile(
                    entry.read_bytes(), MEDIA_TYPES[entry.name.rpartition(".")[2]]
                )

    add(files("llm_scratch") / "serving" / "static", "/")
    return {"/": by_path["/index.html"], **by_path}
