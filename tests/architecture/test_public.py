"""Public names have docstrings and resolve, and `import llm_scratch` is light."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

import llm_scratch

ROOT = Path(llm_scratch.__file__).parent


def undocumented(path: Path) -> list[str]:
    """Return public names without a docstring whose first line is informative."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    missing = [] if ast.get_docstring(tree) or not text.strip() else [f"{path.name}: the module"]

    def look(node, name):
        for child in node.body:
            if not isinstance(
                child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            ) or child.name.startswith("_"):
                continue
            full = f"{name}{child.name}"
            if not (ast.get_docstring(child, clean=False) or "").split("\n")[0].strip():
                missing.append(f"{path.name}:{child.lineno} {full}")
            if isinstance(child, ast.ClassDef):
                look(child, f"{full}.")

    look(tree, "")
    return missing


def test_public_names_have_docstrings():
    missing = [line for path in sorted(ROOT.rglob("*.py")) for line in undocumented(path)]
    assert not missing, "\n".join(missing)


def test_docstring_check_finds_a_missing_docstring(tmp_path):
    (tmp_path / "bare.py").write_text(
        '"""Here."""\nclass A:\n    """A."""\n    def f(self): ...\n    def _g(self): ...\ndef'
        ' h():\n    """\n    late"""\n'
    )
    assert undocumented(tmp_path / "bare.py") == ["bare.py:4 A.f", "bare.py:6 h"]


@pytest.mark.parametrize("name", llm_scratch.__all__)
def test_public_names_resolve(name):
    value = getattr(llm_scratch, name)
    assert value is getattr(import_module(f"llm_scratch.{llm_scratch._PUBLIC[name]}"), name)
    assert name in dir(llm_scratch)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'llm_scratch' has no attribute 'GTPModel'"):
        llm_scratch.GTPModel  # noqa: B018


def test_import_is_light():
    code = (
        "import sys, llm_scratch, llm_scratch.config, llm_scratch.errors, llm_scratch.presets;"
        " print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    ).stdout.split()
    assert "llm_scratch.presets" in loaded
    assert not {"torch", "numpy", "matplotlib", "transformers", "tiktoken"} & set(loaded)


def test_version_is_equal_in_package_project_and_citation():
    import tomllib

    project = tomllib.loads((ROOT.parent.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == llm_scratch.__version__
    citation = (ROOT.parent.parent / "CITATION.cff").read_text()
    assert f"version: {llm_scratch.__version__}\n" in citation


def test_docstrings_name_existing_tests():
    missing = [
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in ROOT.rglob("*.py")
        for name in re.findall(r"tests/[\w/]+\.py", path.read_text(encoding="utf-8"))
        if not (ROOT.parents[1] / name).is_file()
    ]
    assert not missing, f"the docstring names a test that is not there: {missing}"
