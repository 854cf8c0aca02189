"""Optional packages: what each extra of pyproject.toml enables, and the command to install it.

Messages name the packages themselves: this project's name on a package index may belong to another
project.
Tests: tests/test_extras.py (equal to pyproject.toml).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """Packages that are installed together, and what they enable."""

    enables: str
    packages: tuple[str, ...]


EXTRAS: dict[str, Extra] = {
    "hf": Extra(
        "models from the Hugging Face Hub, `export hf`",
        ("transformers", "tokenizers", "huggingface_hub"),
    ),
    "gguf": Extra("`export gguf`", ("gguf",)),
    "eval": Extra("`evaluate --tasks` with lm-evaluation-harness", ("lm_eval",)),
    "data": Extra("Parquet files, data sets of the Hub", ("pyarrow", "datasets")),
    "constrain": Extra("`generate --regex` and `--json-schema`", ("llguidance",)),
    "lessons": Extra(
        "`make lessons`: the notebooks", ("jupytext", "nbclient", "nbconvert", "ipykernel")
    ),
    "docs": Extra("`make docs`: the site", ("sphinx", "furo", "myst-nb")),
    "lens": Extra("`interop.transformer_lens`", ("transformer-lens",)),
    "notebook": Extra("the playground in a notebook", ("anywidget",)),
    "track": Extra("`train --system.tensorboard`", ("tensorboard",)),
    "experiments": Extra("`compare` and `experiment`", ("scipy",)),
    "slurm": Extra("`experiment run --on`: several runs at once, Slurm", ("submitit",)),
    "dev": Extra(
        "tests and checks of this project",
        (
            "pexpect",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "psutil",
            "hypothesis",
            "ruff",
            "mypy",
            "types-PyYAML",
            "statsmodels",
        ),
    ),
}


def install_command(extra: str, pip: str = "pip") -> str:
    """The command that installs the packages of an extra: `pip install pyarrow datasets`."""
    return f"{pip} install {' '.join(EXTRAS[extra].packages)}"
