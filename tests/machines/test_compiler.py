"""Without a C++ compiler, --compile is an error before any work, with what to do."""

from __future__ import annotations

import pytest

from llm_scratch.errors import RESOURCES, USAGE

from .commands import NARROW, Command, run_commands
from .conftest import HENS
from .machines import MACHINES

pytestmark = [pytest.mark.machines, pytest.mark.xdist_group("no-compiler")]

WITHOUT_COMPILER = next(machine for machine in MACHINES if machine.name == "no-compiler")


@pytest.mark.parametrize(
    "command", ["generate {wide} the --compile", f"{NARROW} --system.compile yes --out compiled"]
)
def test_compiling_is_refused_with_advice_when_there_is_no_compiler(
    command, tmp_path, home, reference
):
    (tmp_path / "hens.txt").write_text(HENS, encoding="utf-8")
    words = command.format(wide=reference.folder)
    (result,) = run_commands(WITHOUT_COMPILER, [Command(words)], tmp_path, home)
    assert result.code in (USAGE, RESOURCES), result.err
    assert result.err.count("\n") == 1
    assert "install" in result.err
    assert "step " not in result.out
