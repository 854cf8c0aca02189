"""Without a C++ compiler, `generate --compile` is an error before any work.

Training runs without compiling, and a line says why.
"""

from __future__ import annotations

import pytest

from llm_scratch.errors import RESOURCES, USAGE

from .commands import NARROW, Command, run_commands
from .conftest import HENS
from .machines import MACHINES

pytestmark = [pytest.mark.machines, pytest.mark.xdist_group("no-compiler")]

WITHOUT_COMPILER = next(machine for machine in MACHINES if machine.name == "no-compiler")


def test_compiled_generation_is_refused_with_advice_without_a_compiler(tmp_path, home, reference):
    words = f"generate {reference.folder} the --compile"
    (result,) = run_commands(WITHOUT_COMPILER, [Command(words)], tmp_path, home)
    assert result.code in (USAGE, RESOURCES), result.err
    assert result.err.count("\n") == 1
    assert "install" in result.err


def test_training_prints_why_it_is_not_compiled_without_a_compiler(tmp_path, home):
    (tmp_path / "hens.txt").write_text(HENS, encoding="utf-8")
    words = f"{NARROW} --system.compile yes --out compiled"
    (result,) = run_commands(WITHOUT_COMPILER, [Command(words)], tmp_path, home)
    assert result.code == 0, result.err
    assert "not compiled: torch.compile does not work here" in " ".join(result.out.split())
