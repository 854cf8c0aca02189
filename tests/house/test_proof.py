"""docs/proof.md says what docs/proof.py measures: every row holds, its test exists, and the page lists the same rows."""

import ast
import importlib.util
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load():
    spec = importlib.util.spec_from_file_location("docs_proof", ROOT / "docs" / "proof.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


proof = _load()
each_row = pytest.mark.parametrize("row", proof.ROWS, ids=lambda row: row.ours.rpartition(".")[2])


@each_row
def test_the_row_holds(row, request):
    if "tiktoken" in row.reference:
        request.getfixturevalue("gpt2")
    if "transformers" in row.reference:
        pytest.importorskip("transformers", reason="transformers is the reference; install the hf extra")
    assert 0 <= proof.difference(row) <= row.most


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
    assert len(lines) == len(proof.ROWS) >= 20
    for row, line in zip(proof.ROWS, lines):
        pattern = re.escape(proof.line(row, "FOUND")).replace("FOUND", r"(equal|\d+e-\d+)")
        assert re.fullmatch(pattern, line), f"run: python docs/proof.py\n{line}"


def test_a_difference_that_is_too_large_is_said():
    row = proof.ROWS[0]._replace(measure=lambda: 1.0)
    with pytest.raises(AssertionError, match=r"are 1 apart, at most 1e-05 is right"):
        proof.difference(row)
