"""Only a family's own files branch on the architecture of a model."""

import ast
from pathlib import Path

import pytest

import llm_scratch
from llm_scratch.architectures import ARCHITECTURES, DEFAULT_ARCHITECTURE

ROOT = Path(llm_scratch.__file__).parent
OWN = {"storage/older_formats.py"}
"""Reads names that architectures once had."""


def switches(source: str) -> list[int]:
    """Return the lines that branch on an architecture.

    They compare or match its name, or test the class of its config or its model.
    """
    names = set(ARCHITECTURES)
    classes = {architecture.config.__name__ for architecture in ARCHITECTURES.values()}
    classes |= {architecture.model_class.__name__ for architecture in ARCHITECTURES.values()}
    found = []
    for node in ast.walk(ast.parse(source)):
        tested: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            tested = [node.left, *node.comparators]
        elif isinstance(node, ast.match_case):
            tested = [node.pattern]
        constants = {
            part.value
            for each in tested
            for part in ast.walk(each)
            if isinstance(part, ast.Constant)
        }
        is_switch = bool(names & {value for value in constants if isinstance(value, str)})
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            is_switch = bool(
                classes & {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
            )
        if is_switch:
            found.append(getattr(node, "lineno", 0))
    return found


def test_no_file_branches_on_the_architecture():
    files = {path: path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")}
    wrong = [
        f"{name}:{line}"
        for path, name in files.items()
        if name not in OWN
        for line in switches(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, f"put what differs into the family's own class: {wrong}"


@pytest.mark.parametrize(
    "source",
    [
        'if cfg.architecture == "gpt":\n    pass',
        'x = 1 if cfg["architecture"] in ("gpt", "nanochat") else 2',
        'match name:\n    case "nanochat":\n        pass',
        "y = isinstance(model, GPTModel)",
    ],
)
def test_architecture_check_detects_a_branch(source):
    assert switches(source)


def test_default_architecture_exists():
    assert DEFAULT_ARCHITECTURE in ARCHITECTURES
