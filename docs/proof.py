"""Write docs/proof.md: each part beside what it is held to, and the largest difference between the two, measured now.

Run `python docs/proof.py`; it needs the extra `hf`, GPT-2's vocabulary, and half a minute. A row is a function that computes the same thing
in both ways, on small random inputs (docs/proofs/); the test that its line names asks more. tests/architecture/test_proof.py runs all rows.
"""

from __future__ import annotations

from pathlib import Path

from proofs import ROWS as ALL
from proofs import Row, choosing, learning, model, result, tokens, weights

from llm_scratch.storage.files import atomic_write

PARTS = (model, tokens, choosing, learning, weights)
"""The files whose rows are on the page, in this order."""
ROWS = [row for part in PARTS for row in ALL if row.measure.__module__ == part.__name__]
PAGE = Path(__file__).with_name("proof.md")
HEAD = """# Proof

Every part of this project beside what it is held to, and the largest difference between the two. `equal` means to the last bit, the last
id, the last byte. A test, named at the end of each line, asks the same and more, on every run of `make test`.
Made by `python docs/proof.py`, in float32 on a CPU.

| part | here | held to | largest difference | test |
|---|---|---|---|---|
"""


def line(row: Row, found: str) -> str:
    """A row as the page has it."""
    return f"| {row.part} | `{row.ours}` | {row.reference} | {found} | `tests/{row.test}` |"


def main() -> None:
    """Measure all and write the page."""
    lines = [line(row, result(row)) for row in ROWS]
    atomic_write(PAGE, HEAD + "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
