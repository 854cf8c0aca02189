"""Models and texts for the simulated machines, and what each command printed there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .commands import COMMANDS, UNUSUAL, WIDE, Command, Result, run_commands
from .machines import MACHINES, ORDINARY, Machine

HENS = f"the hen sat on the red mat, and the fox ran off. {UNUSUAL}é\n" * 40
LARGE = 5 * 2**19
"""Characters of a text that two worker processes share: more than two portions."""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Path:
    """A model 512 wide, trained for 20 steps on an ordinary machine."""
    folder = tmp_path_factory.mktemp("wide")
    (folder / "hens.txt").write_text(HENS, encoding="utf-8")
    words = WIDE.replace("hens.txt", str(folder / "hens.txt"))
    (result,) = run_commands(ORDINARY, [Command(f"{words} --out wide")], folder, home)
    assert result.code == 0, result.err
    return folder / "wide"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, home: Path, wide: Path) -> Callable[[Machine], dict[str, Result]]:
    """What the commands gave on a machine; each machine runs them once."""
    known: dict[str, dict[str, Result]] = {}

    def run(machine: Machine) -> dict[str, Result]:
        if machine.name not in known:
            folder = tmp_path_factory.mktemp(machine.name)
            (folder / "hens.txt").write_text(HENS, encoding="utf-8")
            (folder / "books.txt").write_text("the hen sat on the mat.\n" * (LARGE // 24), encoding="utf-8")
            commands = [Command(c.words.format(wide=wide), c.stdin, c.environment, c.code) for c in COMMANDS.values()]
            known[machine.name] = dict(zip(COMMANDS, run_commands(machine, commands, folder, home)))
        return known[machine.name]

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument `machine` runs on each, and those of one machine in one process of pytest-xdist."""
    if "machine" in metafunc.fixturenames:
        rows = [pytest.param(m, id=m.name, marks=pytest.mark.xdist_group(m.name)) for m in MACHINES]
        metafunc.parametrize("machine", rows)
