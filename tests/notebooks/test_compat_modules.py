"""The modules that the notebooks import hold the expected names.

Importing them has no other effect.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FACES = {path.stem: path for path in (ROOT / "src").glob("*.py")}
STATEMENTS = """
from attention import MultiHeadAttention
from attention import softmax_navie, SelfAttention_v1, SelfAttention_v2, CausalAttention
from attention import MultiHeadAttentionWrapper
from llm_gpt import GPTModel
from llm_gpt import generate_text_simple
from llm_gpt import DummyTransformerBlock, DummyLayerNorm, DummyGPTModel, LayerNorm, GELU
from llm_gpt import FeedForward, ExampleDeepNeuralNetwork
from llm_gpt import print_gradients, TransformerBlock
from text_data import create_dataloader_V1, GPTDatasetV1
from gpt_download import download_and_load_gpt2
"""


@pytest.mark.parametrize("statement", STATEMENTS.strip().splitlines())
def test_names_imported_by_the_notebooks_exist(statement):
    _, module, _, names = statement.split(maxsplit=3)
    found = import_module(module)
    assert [name for name in names.split(", ") if not callable(getattr(found, name, None))] == []


def test_step4_cell_50_loader_accepts_the_notebooks_call():
    from gpt_download import download_and_load_gpt2

    signature = inspect.signature(download_and_load_gpt2)
    called = {"model_size": "124M", "models_dir": "gpt2"}
    assert called.keys() <= signature.parameters.keys()
    needed = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
    }
    assert needed <= called.keys()


@pytest.mark.parametrize("face", FACES)
def test_compatibility_module_is_a_docstring_and_imports(face):
    first, *rest = ast.parse(FACES[face].read_text(encoding="utf-8")).body
    assert isinstance(first, ast.Expr)
    for node in rest:
        assert isinstance(node, ast.ImportFrom) or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ), ast.unparse(node)


def test_importing_compatibility_modules_prints_and_writes_nothing(tmp_path):
    """The notebooks' modules printed, built a model of 1.6 billion parameters and set the seed."""
    code = f"""
import gc, sys, torch
state = torch.get_rng_state()
import {", ".join(FACES)}
assert torch.equal(torch.get_rng_state(), state), "the seed was set"
kinds = {{type(thing) for thing in gc.get_objects()}}
assert not any(issubclass(kind, torch.nn.Module) for kind in kinds), "a model was built"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_requirements_name_the_imported_packages():
    """The notebooks' requirements listed an unregistered name, urllib317, and missed imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {line.split(">")[0].split("=")[0].split("[")[0] for line in project["dependencies"]}
    assert names >= {"torch", "tiktoken", "matplotlib", "numpy"}
    assert not [name for name in names if name.startswith("urllib")]
