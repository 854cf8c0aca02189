"""A file is one idea and at most 400 lines, a function at most 60."""

import ast
from pathlib import Path

import pytest

import llm_scratch

SRC = Path(llm_scratch.__file__).parent.parent
FILES = sorted([*(SRC / "llm_scratch").rglob("*.py"), *SRC.glob("*.py")])
MAX_FILE, MAX_FUNCTION = 400, 60


def too_large(path: Path) -> list[str]:
    """The file and its functions that are too long, each as `file:line what`."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    found = (
        [f"{path.name} has {lines} lines; at most {MAX_FILE}, split it by idea"]
        if lines > MAX_FILE
        else []
    )
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and (size := node.end_lineno - node.lineno + 1) > MAX_FUNCTION
        ):
            found.append(
                f"{path.name}:{node.lineno} {node.name} has {size} lines; at most {MAX_FUNCTION}"
            )
    return found


def test_files_and_functions_are_short():
    assert len(FILES) > 30
    found = [line for path in FILES for line in too_large(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("lines", "problems"), [(59, 0), (60, 1), (298, 1), (400, 2)])
def test_size_check_counts_lines(tmp_path, lines, problems):
    (tmp_path / "long.py").write_text("def f():\n" + "    x = 1\n" * lines)
    assert len(too_large(tmp_path / "long.py")) == problems
