"""Architecture: a package imports only from lower layers, and has no circular imports."""

import ast
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import llm_scratch

ROOT = Path(llm_scratch.__file__).parent
LAYERS = [
    ["errors", "formatting"],
    ["ranges", "extras", "storage"],
    ["config_dicts", "hardware"],  # above storage: timings are kept in the cache folder
    ["architectures"],  # settings of models, without torch
    ["config"],
    ["tokenizers", "model", "presets", "run_directory"],
    ["data", "generation", "interop", "interpretability", "checkpoint_model"],
    ["loading", "training", "evaluation"],
    ["planning"],
    ["reports"],
    ["finetuning", "experiments", "serving", "learn"],
    ["own_parts"],
    ["cli"],
    ["__main__"],
]
LAYER = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}
COMPAT_MODULES = [
    "attention.py",
    "gpt_download.py",
    "llm_gpt.py",
    "text_data.py",
]  # without a layer


@dataclass(frozen=True)
class Import:
    """An import of our own code: the importing and the imported module, without `llm_scratch.`."""

    where: str
    here: str
    used: str
    for_types_only: bool


def modules(root: Path) -> dict[str, Path]:
    """Every module by its dotted name; a package by its own name."""
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del names[""]  # the package itself loads its names on first use
    return names


def imports(path: Path, here: str, known: dict[str, Path], public: dict[str, str]) -> list[Import]:
    """The imports of one file, including those in functions and under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(n)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for n in ast.walk(test)
    }
    found = []
    for node in ast.walk(tree):
        used = []
        if isinstance(node, ast.Import):
            used = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, (
                f"{path.name}:{node.lineno} imports by a relative path; write llm_scratch. in full"
            )
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if node.module == "llm_scratch":
                    full = f"llm_scratch.{public.get(alias.name, alias.name)}"
                used.append(full if full.removeprefix("llm_scratch.") in known else node.module)
        ours = [
            name.removeprefix("llm_scratch.") for name in used if name.startswith("llm_scratch.")
        ]
        where = f"{here}:{getattr(node, 'lineno', 0)}"
        found += [Import(where, here, name, id(node) in guarded) for name in ours]
    return found


def everything() -> list[Import]:
    known = modules(ROOT)
    return [
        found
        for here, path in known.items()
        for found in imports(path, here, known, llm_scratch._PUBLIC)
    ]


def package_of(module: str) -> str:
    return module.split(".")[0]


def test_every_package_has_a_layer():
    unlisted = {package_of(name) for name in modules(ROOT)} - set(LAYER)
    assert not unlisted, f"add them to LAYERS: {sorted(unlisted)}"


def test_package_imports_only_from_lower_layers():
    found = everything()
    assert len(found) > 50
    wrong = [
        f"{i.where} imports {i.used}"
        for i in found
        if package_of(i.used) != package_of(i.here)
        and LAYER[package_of(i.used)] >= LAYER[package_of(i.here)]
    ]
    assert not wrong, "\n".join(wrong)


def test_package_has_no_circular_imports():
    """Imports for types alone count too: a reader has to follow them as well."""
    graph: dict[str, set[str]] = {}
    for i in everything():
        if package_of(i.used) == package_of(i.here):
            graph.setdefault(i.here, set()).add(i.used)
    for here, used in graph.items():
        assert here not in used, f"{here} imports itself"
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        raise AssertionError(f"circular import: {' -> '.join(e.args[1])}") from None


def test_packages_are_flat_and_have_no_utils():
    deep = [
        str(path)
        for path in ROOT.rglob("*.py")
        if len(path.relative_to(ROOT).parts) > 2 and path.parts[-3:-1] != ("cli", "commands")
    ]
    assert not deep, deep
    catch_all = [
        str(path)
        for path in ROOT.rglob("*")
        if path.stem in ("utils", "util", "common", "helpers", "misc")
    ]
    assert not catch_all, f"split by idea: {catch_all}"


def test_tokenizers_do_not_import_torch():
    wrong = [
        f"{path.name}:{node.lineno}"
        for path in ROOT.glob("tokenizers/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and "torch" in [n.split(".")[0] for n in names_of(node)]
    ]
    assert not wrong, wrong


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    return (
        [alias.name for alias in node.names]
        if isinstance(node, ast.Import)
        else [node.module or ""]
    )


@pytest.mark.parametrize("name", COMPAT_MODULES)
def test_compat_module_only_reexports_from_model_to_training(name):
    tree = ast.parse((ROOT.parent / name).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in tree.body[1:]:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("llm_scratch."):
            assert LAYER["model"] <= LAYER[node.module.split(".")[1]] <= LAYER["training"], (
                f"{name}:{node.lineno} imports {node.module}"
            )
        else:
            kind = ast.unparse(node).split(" = ")[0]
            assert kind == "__all__" or kind.startswith("from __future__"), (
                f"{name}:{node.lineno} is more than a name: {ast.unparse(node)}"
            )


def test_import_reader_finds_every_kind_of_import(tmp_path):
    text = """
from typing import TYPE_CHECKING
import llm_scratch.errors
from llm_scratch.storage import checkpoint
from llm_scratch import load
from llm_scratch.model import gpt
from llm_scratch.model.gpt import GPTModel
if TYPE_CHECKING:
    from llm_scratch.training.loop import Trainer
def f():
    from llm_scratch.cli import main
"""
    (tmp_path / "x.py").write_text(text)
    known = dict.fromkeys(
        ["errors", "storage.checkpoint", "loading", "model", "model.gpt", "training.loop", "cli"],
        tmp_path,
    )
    found = imports(tmp_path / "x.py", "x", known, {"load": "loading"})
    assert {(i.used, i.for_types_only) for i in found} == {
        ("errors", False),
        ("storage.checkpoint", False),
        ("loading", False),
        ("model.gpt", False),
        ("training.loop", True),
        ("cli", False),
    }
