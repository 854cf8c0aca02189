"""Open the sealed solutions for editing, and seal them again.

    python lessons/seal.py --open    # src/llm_scratch/learn/sealed/*.txt -> lessons/solutions/*.py
    python lessons/seal.py           # and back

lessons/solutions/ is not part of the repository (.gitignore): solutions are committed sealed.
Tests: tests/learn/test_sealed.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm_scratch.learn.sealed import FOLDER, seal, unseal
from llm_scratch.storage.files import atomic_write

SOLUTIONS = Path(__file__).parent / "solutions"


def main(open_them: bool, solutions: Path = SOLUTIONS, sealed: Path = FOLDER) -> None:
    """Open or seal all files."""
    if open_them:
        for path in sealed.glob("*.txt"):
            atomic_write(solutions / f"{path.stem}.py", unseal(path.read_text(encoding="ascii")))
    else:
        for path in solutions.glob("*.py"):
            atomic_write(sealed / f"{path.stem}.txt", seal(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main(open_them=sys.argv[1:] == ["--open"])
