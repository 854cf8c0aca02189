"""make notices that the folder was moved after .venv was made, whatever the path contains."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ["plain", "with space", "it's", 'a "quote"', "$HOME", "dot.star*"]


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the project's Makefile and an environment without programs."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    folder = tmp_path / request.param
    (folder / ".venv").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(folder: Path, environment: Path) -> subprocess.CompletedProcess[str]:
    """What `make demo` would do, if the environment had been made at the given path."""
    command = f"command = /usr/bin/python3 -m venv {environment}\n"
    (folder / ".venv" / "pyvenv.cfg").write_text(command)
    return subprocess.run(
        ["make", "-n", "demo", "PIP_FLAGS="], cwd=folder, capture_output=True, text=True
    )


def test_same_folder(folder: Path) -> None:
    done = make(folder, folder.resolve() / ".venv")
    assert done.returncode == 0, done.stderr


def test_moved_folder(folder: Path) -> None:
    done = make(folder, Path("/elsewhere/.venv"))
    assert done.returncode == 2
    assert "run `make clean`, then this again" in done.stderr
