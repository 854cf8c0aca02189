"""Build the site from the lessons, docs/, README and the API reference: build/site/index.html.

Run `python docs/website/build.py` (that is `make docs`) and open the page; it needs no server and
no network. A broken link, or a page that the navigation on index.md lacks, fails the build.
Tests: tests/architecture/test_website.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from llm_scratch.errors import UserError
from llm_scratch.extras import install_command

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = ("*.md", "LICENSE", "CITATION.cff", "docs/**/*.md", "docs/**/*.png", "benchmarks/*")
SOURCES += ("notebook/*.ipynb", "notebook/drawings/*.svg")
SOURCES += ("src/**/*.py", "tests/**/*.py", "docs/**/*.py")
"""What the pages are and what they link to, as patterns below the root."""
ALT_TEXT = re.compile(r"!\[[^\]]*\]")


def stage(folder: Path) -> None:
    """Copy the sources below `folder`, with index.md at its top; folded code stays folded."""
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".ipynb":
                target.write_text(for_myst(path.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copy2(path, target)
    index = folder / "docs/website/index.md"
    (folder / "index.md").write_text(index.read_text("utf-8").replace("../../", ""), "utf-8")
    index.unlink()


def for_myst(notebook: str) -> str:
    """The notebook as MyST reads it well: its tag on each cell whose code Jupyter folds, and
    alternative texts in one line, since it joins their lines without a space.
    """
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["metadata"].get("jupyter", {}).get("source_hidden"):
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "hide-input"]
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            cell["source"] = ALT_TEXT.sub(lambda alt: alt[0].replace("\n", " "), text)
    return json.dumps(content)


def run_sphinx(sources: Path, folder: Path) -> None:
    """Make the pages of `sources` into HTML in `folder`.

    Raises:
        UserError: Sphinx is not installed, or reports a problem such as a broken link.
    """
    if any(find_spec(name) is None for name in ("sphinx", "furo", "myst_nb")):
        raise UserError(f"the site needs Sphinx; install it with: {install_command('docs')}")
    # -W: a warning fails the build; -q: only warnings are printed; -E: nothing is kept for later
    flags = ["-W", "--keep-going", "-q", "-E", "-j", "auto", "-c", str(HERE)]
    command = [sys.executable, "-m", "sphinx", *flags, "-d", str(folder / ".doctrees")]
    if subprocess.run([*command, str(sources), str(folder)]).returncode:
        raise UserError("the site: Sphinx reports the problems above; correct the pages it names")
    shutil.rmtree(folder / ".doctrees")


def build(folder: Path) -> Path:
    """Build the site in `folder`, which is emptied first; returns its first page."""
    shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory() as sources:
        stage(Path(sources))
        run_sphinx(Path(sources), folder)
    return folder / "index.html"


if __name__ == "__main__":
    try:
        print(build(ROOT / "build" / "site"))
    except UserError as e:
        print(f"docs/website/build.py: {e}", file=sys.stderr)
        sys.exit(e.code)
