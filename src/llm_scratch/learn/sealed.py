"""Sealed solutions: readable by the program, and by a person only on purpose.

A sealed file holds Python source, encoded as text, so that browsing or searching the repository
does not spoil an exercise. `llm-scratch learn solution ID` opens one. Inside, `solve` is the
solution; every other function is a common mistake, and its docstring is the diagnosis. To edit
them: `python lessons/seal.py --open`, then `python lessons/seal.py`.
Tests: tests/learn/test_sealed.py.
"""

from __future__ import annotations

import ast
import base64
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

FOLDER = Path(__file__).parent / "sealed"


@dataclass(frozen=True)
class Sealed:
    """The content of a sealed file."""

    source: str
    solve: Callable[..., Any]
    mistakes: tuple[Callable[..., Any], ...]

    @property
    def solution(self) -> str:
        """The source of `solve`, with the imports and constants that it may need."""
        tree = ast.parse(self.source)
        shown = [
            node
            for node in tree.body
            if not isinstance(node, ast.FunctionDef) or node.name == "solve"
        ]
        return "\n\n".join(ast.get_source_segment(self.source, node) or "" for node in shown)


@cache
def open_sealed(exercise_id: str) -> Sealed:
    """Open the sealed file of an exercise."""
    source = unseal((FOLDER / f"{exercise_id}.txt").read_text(encoding="ascii"))
    file = f"<sealed {exercise_id}>"
    namespace: dict[str, Any] = {"__name__": "sealed"}
    exec(compile(source, file, "exec"), namespace)
    functions = [
        value
        for value in namespace.values()
        if isinstance(value, FunctionType) and value.__code__.co_filename == file
    ]
    public = [function for function in functions if not function.__name__.startswith("_")]
    mistakes = tuple(function for function in public if function.__name__ != "solve")
    return Sealed(
        source, next(function for function in public if function.__name__ == "solve"), mistakes
    )


def seal(source: str) -> str:
    """Source as the text of a sealed file."""
    packed = base64.b64encode(source.encode("utf-8")).decode("ascii")
    return textwrap.fill(packed, 88) + "\n"


def unseal(text: str) -> str:
    """The source in a sealed file's text."""
    return base64.b64decode(text).decode("utf-8")
