"""Run a user's Python file, which may register models, optimizers, schedules and more.

Tests: tests/cli/test_flags.py, tests/experiments/test_arms.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.storage.files import sha256_of

PREFIX = "imported_"
"""Before the name of a user's file in the name of its module."""
RUN_FILES: set[str] = set()
"""SHA-256 of the files that ran in this process."""


def is_users(module: object) -> bool:
    """Whether a module's name is that of a user's file."""
    return isinstance(module, str) and module.startswith(PREFIX)


def run_user_file(path: Path, shown: str) -> ModuleType:
    """Run a Python file as a module of its own, and return the module.

    Args:
        path: the file.
        shown: the file as the user wrote it, for errors, such as `--import mine.py`.
    Raises:
        UserError: no such file, or an error inside it.
    """
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"{shown}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up the module of their class
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"{shown}: {describe_error(e, named=True)}; --debug shows where") from e
    RUN_FILES.add(sha256_of(path))
    return module


def check_own_parts(file: str, different: str, where: Path) -> None:
    """Check that a model with parts of a learner's is loaded together with the learner's file.

    No file is run here: a model brings no code, so the user has to name it.

    Args:
        file: name and SHA-256 of the learner's file (`RunConfig.parts`).
        different: the parts that differ from the package's; "" needs no file.
        where: the model, for the error.
    Raises:
        UserError: the file has not been run in this process (exit code 4).
    """
    name, _, sha256 = file.rpartition(" ")
    if different and sha256 not in RUN_FILES:
        raise UserError(
            f"{where}: trained with parts of {name} that differ from the package's ({different});"
            f" add --parts {name}, as it was then (other commands: docs/course_own_parts.md)",
            CHECKPOINT,
        )
