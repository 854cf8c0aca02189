"""docs/proof.md says what docs/proof.py measures: every row holds, its test exists, and the page lists the same rows."""

import ast
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
proof = import_module("proof")
proofs = import_module("proofs")
TABLES = {
    "MODELS": "model",
    "TOKENIZERS": "tokenizers",
    "SAMPLERS": "generation.sampling",
    "PENALTIES": "generation.penalties",
    "OPTIMIZERS": "training.optim",
    "SCHEDULES": "training.schedule",
}
"""The tables that people extend, and where they stand."""
each_row = pytest.mark.parametrize("row", proof.ROWS, ids=lambda row: row.ours.rpartition(".")[2])


@each_row
def test_the_row_holds(row, request):
    if "tiktoken" in row.reference:
        request.getfixturevalue("gpt2")
    for library in ("transformers", "tokenizers"):
        if library in row.reference:
            pytest.importorskip(library, reason=f"{library} is the reference; install the hf extra")
    try:
        largest = proofs.difference(row)
    except proofs.NotRun as e:
        pytest.skip(str(e))
    assert 0 <= largest <= row.most


@each_row
def test_what_the_row_names_exists(row):
    module, _, names = row.ours.partition(".")
    assert attrgetter(names)(import_module("llm_scratch." + module.replace("/", "."))) is not None
    file, _, function = row.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"tests/{file} has no {function}"


def test_the_page_lists_these_rows():
    page = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    assert page.startswith(proof.HEAD)
    lines = page.removeprefix(proof.HEAD).splitlines()
    assert len(lines) == len(proof.ROWS) == len(proof.ALL) >= 50
    for row, line in zip(proof.ROWS, lines):
        pattern = re.escape(proof.line(row, "FOUND")).replace("FOUND", r"(equal|\d+e-\d+|not run: [^|]+)")
        assert re.fullmatch(pattern, line), f"run: python docs/proof.py\n{line}"


def test_each_entry_of_each_table_has_a_row():
    proved = {entry for row in proof.ROWS for entry in row.of}
    known = {f"{table}.{name}" for table, room in TABLES.items() for name in getattr(import_module(f"llm_scratch.{room}"), table)}
    assert not known - proved, "write a row in docs/proofs/, and run: python docs/proof.py"
    assert proved <= known, "a row proves what is in no table"


def test_difference_fails_when_it_is_too_large():
    row = proof.ROWS[0]._replace(measure=lambda: 1.0)
    with pytest.raises(AssertionError, match=r"are 1 apart, at most 1e-05 is right"):
        proofs.difference(row)


def test_packed_row_says_not_run_when_the_processor_cannot_pack(monkeypatch):
    row = next(row for row in proof.ROWS if row.ours == "model/packed.PackedLinear")
    monkeypatch.setattr("proofs.model.can_pack", lambda dtype: False)
    assert proofs.result(row) == "not run: this processor or this torch cannot pack float32 matrices"
