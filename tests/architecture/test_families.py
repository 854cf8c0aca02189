"""docs/families.md matches docs/families_table.py: every cell of its table is tried."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

import pytest

from llm_scratch.architectures import ARCHITECTURES

pytest.importorskip("transformers", reason="a cell exports to transformers; install the hf extra")
families_table = import_module("families_table")
DEFAULT = {"llama", "gemma"}
"""Tried by default; the others by `make test-slow`, half a second a cell."""
SLOW = {"compile", "DDP", "FSDP2"}
PROCESSES = {("deepseek", "FSDP2")}
"""Tried by default although slow: its balancing has a loss, and a bias without a gradient."""


def marks_of(name, feature):
    """The marks of a cell."""
    default = name in DEFAULT and feature not in SLOW or (name, feature) in PROCESSES
    needs_fork = feature in ("DDP", "FSDP2") and not hasattr(os, "fork")
    fork = pytest.mark.skipif(needs_fork, reason="needs fork, which Windows does not have")
    return [fork] if default else [fork, pytest.mark.slow]


CELLS = [
    pytest.param(
        name,
        feature,
        id=f"{name}: {feature}",
        marks=marks_of(name, feature),
    )
    for name in ARCHITECTURES
    for feature in families_table.FEATURES
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model of an architecture, and the run that its first cell trains."""
    made = {}

    def of(name):
        if name not in made:
            made[name] = families_table.Tiny(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


def page_cells():
    """Architecture -> feature -> "yes" or a reason, read from the page."""
    _, mark, table = families_table.PAGE.read_text(encoding="utf-8").partition(families_table.MARK)
    assert mark, "the page has no table; run: python docs/families_table.py"
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    names = rows[0]
    notes = dict(re.findall(r"^(\(\d+\)) (.*)$", table, re.M))
    return {
        name: {row[0]: notes.get(row[i], row[i]) for row in rows[1:]}
        for i, name in enumerate(names, 1)
    }


@pytest.mark.parametrize(("name", "feature"), CELLS)
def test_notebook_cell_equals_the_code_block_of_the_families_page(name, feature, tiny):
    expected = families_table.cell(feature, tiny(name))
    assert page_cells()[name][feature] == expected, "run: python docs/families_table.py"


def test_families_page_has_every_architecture_and_feature():
    cells = page_cells()
    assert list(cells) == list(ARCHITECTURES)
    assert all(list(row) == list(families_table.FEATURES) for row in cells.values())


def test_families_page_has_a_section_for_every_architecture():
    page = families_table.PAGE.read_text(encoding="utf-8")
    sections = re.findall(r"^## .*`model/(\w+)\.py`", page, re.M)
    assert sections == [
        ARCHITECTURES[name].model.partition(":")[0].rpartition(".")[2] for name in ARCHITECTURES
    ]
    for name in sections:
        assert (Path("src/llm_scratch/model") / f"{name}.py").is_file()


def test_feature_check_raises_for_a_broken_feature_and_gives_a_reason_for_a_missing_one(
    tiny, monkeypatch
):
    def broken(tiny):
        raise AssertionError("differ")

    def missing(tiny):
        raise families_table.UserError("has no such part")

    monkeypatch.setitem(families_table.FEATURES, "cache", broken)
    monkeypatch.setitem(families_table.FEATURES, "pack", missing)
    with pytest.raises(AssertionError, match="differ"):
        families_table.cell("cache", tiny("gpt"))
    assert families_table.cell("pack", tiny("gpt")) == "has no such part"
