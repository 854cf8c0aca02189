"""Models and texts for the simulated machines, and the output of each command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from .commands import (
    COMMANDS,
    TIMEOUT_SECONDS,
    UNUSUAL,
    WIDE,
    Command,
    Result,
    run_commands,
)
from .machines import MACHINES, ORDINARY, Machine

HENS = f"You: the hen sat on the red mat.\nModel: and the fox ran off. {UNUSUAL}é\n" * 40
LARGE = 5 * 2**19
"""Characters of a text that two worker processes share: more than two portions."""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@dataclass(frozen=True)
class Reference:
    """A model of width 512 trained for 20 steps, and the output of some commands about it."""

    folder: Path
    results: dict[str, Result]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Reference:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "hens.txt").write_text(HENS, encoding="utf-8")
    train = Command(f"{WIDE.replace('hens.txt', str(folder / 'hens.txt'))} --out wide")
    names = "evaluate-wide", "generate-float32"
    commands = [train, *(in_folder(COMMANDS[name], folder / "wide") for name in names)]
    trained, *results = run_commands(ORDINARY, commands, folder, home)
    assert trained.code == 0, trained.err
    return Reference(folder / "wide", dict(zip(names, results)))


@pytest.fixture(scope="session")
def results(
    tmp_path_factory: pytest.TempPathFactory, home: Path, reference: Reference
) -> Callable[[Machine], tuple[Path, dict[str, Result]]]:
    """The folder of a machine and the results of the commands; each machine runs them once."""
    known: dict[str, tuple[Path, dict[str, Result]]] = {}

    def run(machine: Machine) -> tuple[Path, dict[str, Result]]:
        if machine.name not in known:
            folder = tmp_path_factory.mktemp(machine.name)
            (folder / "hens.txt").write_text(HENS, encoding="utf-8")
            (folder / "books.txt").write_text(
                "the hen sat on the mat.\n" * (LARGE // 24), encoding="utf-8"
            )
            commands = {"probe": Command(program=machine.probe[0])} | COMMANDS
            done = run_commands(
                machine, [in_folder(c, reference.folder) for c in commands.values()], folder, home
            )
            known[machine.name] = folder, dict(zip(commands, done))
        return known[machine.name]

    return run


def in_folder(command: Command, wide: Path) -> Command:
    """The command with the path of the wide model."""
    return replace(command, words=command.words.format(wide=wide))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of a machine runs all its commands."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with an argument `machine` on each, all tests of a machine in one worker."""
    if "machine" in metafunc.fixturenames:
        rows = [pytest.param(m, id=m.name, marks=pytest.mark.xdist_group(m.name)) for m in MACHINES]
        metafunc.parametrize("machine", rows)
