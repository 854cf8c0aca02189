"""Make the notebooks from the lessons: stepN_name.py -> notebook/stepN.ipynb, with outputs.

Run `python lessons/build.py` for all (that is `make lessons`), or `python lessons/build.py 1 2` for
some. It also writes the drawings, notebook/drawings/*.svg, and docs/glossary.md. Cells tagged
"setup", "check" or "plot" are folded in the notebook. The same lesson gives the same notebook, byte
for byte, on the same machine: no times are kept, and a cell's id is the hash of its text. Terms are
linked to the glossary where they are introduced (glossary_links.py). Tests:
tests/lessons/test_lessons.py.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from drawings import write_drawings
from glossary_links import link_terms

from llm_scratch.errors import UserError, unknown
from llm_scratch.extras import install_command
from llm_scratch.learn.glossary import as_markdown
from llm_scratch.learn.notebook import SEED_VARIABLE
from llm_scratch.storage.files import atomic_write

LESSONS = Path(__file__).resolve().parent
NOTEBOOKS = LESSONS.parent / "notebook"
GLOSSARY = LESSONS.parent / "docs" / "glossary.md"
FOLDED = {"setup", "check", "plot"}
"""Tags of the cells whose code is folded: imports, checks of what the text claims, drawing."""
# a cell that takes longer hangs; the longest is lesson 4's training with LLM_SCRATCH_FULL=1
SECONDS_A_CELL = 1200


def lessons() -> dict[str, Path]:
    """Every lesson by its notebook's name: {"step1": lessons/step1_text.py, ...}."""
    return {path.stem.split("_")[0]: path for path in sorted(LESSONS.glob("step*_*.py"))}


def is_folded(cell: Any) -> bool:
    """Whether a cell's code is hidden until a reader opens it."""
    return bool(FOLDED & set(cell.metadata.get("tags", [])))


def as_notebook(lesson: Path) -> Any:
    """The lesson's cells as a notebook that has not been run; ids depend on the cells' text."""
    import jupytext
    from nbformat.v4 import new_notebook

    cells = jupytext.read(lesson).cells
    prose = [cell for cell in cells if cell.cell_type == "markdown"]
    for cell, text in zip(prose, link_terms([cell.source for cell in prose])):
        cell.source = text
    seen: dict[str, int] = {}
    for cell in cells:
        mark = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[mark] = seen.get(mark, 0) + 1
        cell.id = mark if seen[mark] == 1 else f"{mark}-{seen[mark]}"
        if is_folded(cell):
            cell.metadata["jupyter"] = {"source_hidden": True}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def execute(notebook: Any) -> None:
    """Run all cells in a fresh Python in an empty folder, and put outputs into `notebook`.

    Raises on the first cell that fails.
    """
    from nbclient import NotebookClient
    from traitlets.config import Config

    os.environ.pop(
        "MPLBACKEND", None
    )  # the kernel's default backend stores pictures in the notebook
    os.environ[SEED_VARIABLE] = "0"
    with tempfile.TemporaryDirectory() as folder:
        # over TCP other users could listen
        quiet = {} if sys.platform == "win32" else {"transport": "ipc", "ip": f"{folder}/kernel"}
        config = Config({"KernelManager": quiet})
        client = NotebookClient(
            notebook,
            timeout=SECONDS_A_CELL,
            record_timing=False,
            coalesce_streams=True,
            config=config,
        )
        client.execute(cwd=folder)
    # the kernel adds its version, which differs between machines
    notebook.metadata["language_info"] = {"name": "python"}


def main(names: list[str]) -> None:
    """Build the named lessons ("1", "step1"), or all."""
    try:
        import jupytext  # noqa: F401
        import nbclient  # noqa: F401
        import nbformat
    except ModuleNotFoundError as e:
        raise UserError(
            f"building notebooks needs {e.name}; install it with: {install_command('lessons')}"
        ) from e
    found = lessons()
    chosen = [name if name.startswith("step") else f"step{name}" for name in names] or list(found)
    for name in chosen:
        if name not in found:
            raise unknown("lesson", name, found)
    write_drawings(NOTEBOOKS / "drawings")
    atomic_write(GLOSSARY, as_markdown())
    for name in chosen:
        notebook = as_notebook(found[name])
        execute(notebook)
        nbformat.validate(notebook)
        atomic_write(NOTEBOOKS / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
        print(f"lessons/{found[name].name} -> notebook/{name}.ipynb ({len(notebook.cells)} cells)")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as e:
        print(f"lessons/build.py: {e}", file=sys.stderr)
        sys.exit(e.code)
