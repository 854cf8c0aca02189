"""docs/equivalence.md matches docs/equivalence_table.py.

Its rows are within tolerance, and the tests they name exist.
"""

import ast
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
equivalence = import_module("equivalence")
equivalence_table = import_module("equivalence_table")
TABLES = {
    "ARCHITECTURES": "architectures",
    "TOKENIZERS": "tokenizers",
    "SAMPLERS": "generation.sampling",
    "PENALTIES": "generation.penalties",
    "OPTIMIZERS": "training.optim",
    "SCHEDULES": "training.schedule",
}
"""The registries that users extend -> module."""
each_row = pytest.mark.parametrize(
    "row", equivalence_table.ROWS, ids=lambda row: row.ours.rpartition(".")[2]
)


@each_row
def test_equivalence_row_is_within_tolerance(row, request):
    if "tiktoken" in row.reference:
        request.getfixturevalue("gpt2")
    for library in ("transformers", "tokenizers"):
        if library in row.reference:
            pytest.importorskip(library, reason=f"{library} is the reference; install the hf extra")
    try:
        difference = equivalence.measure_difference(row)
    except equivalence.NotRun as e:
        pytest.skip(str(e))
    assert 0 <= difference <= row.tolerance


@each_row
def test_equivalence_row_names_existing_code_and_test(row):
    module, _, names = row.ours.partition(".")
    assert attrgetter(names)(import_module("llm_scratch." + module.replace("/", "."))) is not None
    file, _, function = row.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert function in {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
    }, f"tests/{file} has no {function}"


def test_equivalence_page_lists_all_rows():
    page = (ROOT / "docs" / "equivalence.md").read_text(encoding="utf-8")
    assert page.startswith(equivalence_table.HEAD)
    lines = page.removeprefix(equivalence_table.HEAD).splitlines()
    assert len(lines) == len(equivalence_table.ROWS) == len(equivalence_table.ALL) >= 50
    for row, line in zip(equivalence_table.ROWS, lines):
        pattern = re.escape(equivalence_table.format_row(row, "FOUND")).replace(
            "FOUND", r"(equal|\d+e-\d+|not run: [^|]+)"
        )
        assert re.fullmatch(pattern, line), f"run: python docs/equivalence_table.py\n{line}"


def test_each_registry_entry_has_an_equivalence_row():
    covered = {entry for row in equivalence_table.ROWS for entry in row.covers}
    known = {
        f"{table}.{name}"
        for table, module in TABLES.items()
        for name in getattr(import_module(f"llm_scratch.{module}"), table)
    }
    assert not known - covered, (
        "write a row in docs/equivalence/, and run: python docs/equivalence_table.py"
    )
    assert covered <= known, "a row covers an unknown registry entry"


def test_equivalence_difference_above_tolerance_raises():
    row = equivalence_table.ROWS[0]._replace(measure=lambda: 1.0)
    with pytest.raises(AssertionError, match=r"differ by 1; expected at most 1e-05"):
        equivalence.measure_difference(row)


def test_packed_row_is_not_run_when_the_processor_cannot_pack(monkeypatch):
    row = next(row for row in equivalence_table.ROWS if row.ours == "model/packed.PackedLinear")
    monkeypatch.setattr("equivalence.model.can_pack", lambda dtype: False)
    assert (
        equivalence.result(row)
        == "not run: this processor or this torch cannot pack float32 matrices"
    )
