"""Run a lesson as a script: print its headings, and save its pictures to files.

A lesson is a Python file in cells, `# %%` for code and `# %% [markdown]` for text. In a notebook
the text is on the page. In a terminal it is a comment, which is not shown, so the headings are
printed.
Tests: tests/learn/test_script.py.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

PICTURES = "pictures"
"""Folder for the pictures, in the current one."""
_RUNNING = "_lesson_is_running"


def run_as_script(namespace: dict[str, Any]) -> None:
    """Run the calling lesson cell by cell, then exit; in a notebook, do nothing.

    Args:
        namespace: the caller's `globals()`; a script has `__file__` there, a notebook has not.
    """
    if (
        namespace.get("__name__") != "__main__"
        or "__file__" not in namespace
        or _RUNNING in namespace
    ):
        return
    namespace[_RUNNING] = True
    lesson = Path(namespace["__file__"])
    _save_pictures(lesson.stem.split("_")[0])
    for line, kind, source in cells(lesson.read_text(encoding="utf-8")):
        if kind == "markdown":
            for heading in re.findall(r"^# (#+ .*)", source, re.MULTILINE):
                print(f"\n{heading}")
        else:
            exec(compile("\n" * line + source, lesson, "exec"), namespace)
    sys.exit()


def cells(text: str) -> list[tuple[int, str, str]]:
    """The cells of a lesson: (lines before it, "code" or "markdown", its source)."""
    blocks, kind, start = [], "", 0
    lines = text.splitlines(keepends=True)
    for number, line in enumerate([*lines, "# %%"]):
        if line.startswith("# %%"):
            if kind:
                blocks.append((start, kind, "".join(lines[start:number])))
            kind, start = "markdown" if "[markdown]" in line else "code", number + 1
    return blocks


def _save_pictures(lesson: str) -> None:
    """Make `plt.show()` save the open figures and print where."""
    import matplotlib  # imported here: exercises are graded without it

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    saved: list[Path] = []

    def show(*_args: Any, **_kwargs: Any) -> None:
        Path(PICTURES).mkdir(exist_ok=True)
        for number in plt.get_fignums():
            saved.append(Path(PICTURES, f"{lesson}-{len(saved) + 1}.png"))
            plt.figure(number).savefig(saved[-1])
            print(f"picture: {saved[-1]}")
        plt.close("all")

    plt.show = show
