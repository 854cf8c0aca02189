"""tools/version_matrix.py and tools/environments.py: rows, places to try them, the table."""

import os
import platform
import sys
import tomllib
from pathlib import Path

import environments
import pytest
import version_matrix
from environments import Environment, Unavailable
from version_matrix import ARM_ROWS, ROWS, Row

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="replaces programs by shell scripts")


def write_program(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_version_rows_cover_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floor = project["requires-python"].removeprefix(">=")
    assert Row(floor, lowest=True) in ROWS
    assert Row(floor, pinned=True) in ROWS
    assert {row.python for row in ROWS} >= {"3.11", "3.12", "3.13", "3.14"}
    assert all(row.python in environments.DEBIAN_SUITES for row in ARM_ROWS)
    assert any("numpy==1.26.*" in row.wanted for row in ROWS)
    names = [row.name for row in (*ROWS, *ARM_ROWS)]
    assert len(set(names)) == len(names)


@posix
def test_find_python_skips_a_pyenv_shim_that_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    shim = write_program(tmp_path / "bin" / "python9.9", "exit 127")
    monkeypatch.setenv("PATH", f"{shim.parent}:/usr/bin:/bin")
    assert environments.find_python("9.9") is None
    folder = tmp_path / "pyenv" / "versions" / "9.9.1" / "bin"
    real = write_program(folder / "python9.9", "echo 9.9")
    assert environments.find_python("9.9") == real


def test_find_python_finds_the_running_version():
    version = "{}.{}".format(*sys.version_info[:2])
    assert environments.find_python(version) == Path(sys.executable)


def test_missing_python_is_unavailable_with_both_reasons(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(Unavailable, match=r"no Python 9.9 .*; no suite of Debian has Python 9.9"):
        environments.python_environment("9.9", tmp_path, "uv")


@posix
@pytest.mark.parametrize(
    ("machine", "runs_programs"),
    [("other", "qemu-user-static"), (platform.machine(), "proot")],
)
@pytest.mark.parametrize(("user", "fakeroot"), [(0, ""), (1000, "fakeroot, ")])
def test_missing_tools_that_cannot_be_installed_are_named(
    monkeypatch,
    machine,
    runs_programs,
    user,
    fakeroot,
):
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    message = rf"needs Debian's debootstrap, {fakeroot}{runs_programs}: sudo apt-get"
    with pytest.raises(Unavailable, match=message):
        environments.install_debian_tools(machine)


@posix
def test_missing_tools_are_installed_by_root_alone(monkeypatch):
    commands = []
    found = {"qemu-other-static": None}
    monkeypatch.setattr(environments.shutil, "which", lambda name: found.get(name, name))
    monkeypatch.setattr(environments, "run_quietly", commands.append)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    advice = r"Debian's qemu-user-static: sudo apt-get install --yes qemu-user-static"
    with pytest.raises(Unavailable, match=advice):
        environments.install_debian_tools("other")
    assert not commands
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    environments.install_debian_tools("other")
    assert commands == [["apt-get", "update"], ["apt-get", "install", "--yes", "qemu-user-static"]]


@posix
def test_emulated_python_starts_qemu_with_itself_as_the_executable(tmp_path, monkeypatch):
    qemu = write_program(tmp_path / "bin" / "qemu-other-static", "printf '%s\\n' \"$@\"")
    monkeypatch.setenv("PATH", f"{qemu.parent}:/usr/bin:/bin")
    root = tmp_path / "a folder"
    (root / "usr" / "bin").mkdir(parents=True)
    script = environments.emulated_python(root, "other", "max")
    place = Environment((str(script),), (), tmp_path)
    python = str(root / "usr" / "bin" / "python3")
    words = ["-L", str(root), "-cpu", "max", "-0", str(script), python, "-c", "print(1)"]
    assert place.run("-c", "print(1)", timeout=240) == (0, "\n".join([*words, ""]))


@posix
def test_failed_command_reports_its_last_lines(tmp_path):
    lines = "echo noise; echo; echo first; echo second >&2; echo third; exit 3"
    program = write_program(tmp_path / "fails", lines)
    with pytest.raises(Unavailable, match=r"fails one two .*failed: first second third$"):
        environments.run_quietly([program, "one", "two"])


@posix
def test_environment_runs_python_in_its_folder(tmp_path):
    place = Environment((sys.executable,), (), tmp_path, {"GREETING": "hen"})
    code = """import os, sys
print(os.getcwd(), os.environ["GREETING"], sys.stdin.read())
sys.exit(3)"""
    assert place.run("-c", code, timeout=240) == (3, f"{tmp_path} hen \n")


@pytest.mark.timing  # Python must start within the time-out
@posix
def test_command_is_killed_after_its_timeout(tmp_path):
    place = Environment((sys.executable,), (), tmp_path)
    code = "import time; print('begun', flush=True); time.sleep(600)"
    assert place.run("-c", code, timeout=3) == (124, "begun\n")


def test_source_is_copied_without_build_files(tmp_path):
    (tmp_path / "old").write_text("from the row before")
    version_matrix.copy_source(tmp_path)
    assert not (tmp_path / "old").exists()
    for name in ("pyproject.toml", "README.md", "src/llm_scratch/cli", "tests/notebooks", "tools"):
        assert (tmp_path / name).exists()
    made = ("__pycache__", ".venv", "runs", "build")
    assert not [path for path in tmp_path.rglob("*") if path.name in made]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("3.12", ("torch==2.10.*", "numpy==1.26.*")), ["torch==2.10.*", "numpy==1.26.*"]),
        (Row("3.11", lowest=True), ["--resolution", "lowest-direct"]),
        (Row("3.11", pinned=True), ["--constraints", str(ROOT / "constraints.txt")]),
    ],
    ids=lambda value: value.name if isinstance(value, Row) else "",
)
def test_row_installs_its_versions(tmp_path, monkeypatch, row, words):
    commands = []
    monkeypatch.setattr(version_matrix, "run_quietly", commands.append)
    place = Environment(("python",), ("--target", "here"), tmp_path)
    version_matrix.install(row, place, "uv", ["--flag"], tmp_path / "ours.whl")
    [command] = commands
    command = [str(word) for word in command]
    assert command[:5] == ["uv", "pip", "install", "--target", "here"]
    always = ["--flag", "--only-binary", str(ROOT / "pyproject.toml"), str(tmp_path / "ours.whl")]
    assert {*words, *always} <= set(command)
    assert ("lowest-direct" in command, "--constraints" in command) == (row.lowest, row.pinned)


@pytest.fixture
def try_with(tmp_path, monkeypatch, capsys):
    """Try one row whose checks end with these exit codes: (exit code of the matrix, its line)."""

    def try_row(smoke: int, tests: int, install: object = None) -> tuple[int, str]:
        class Place(Environment):
            def run(self, *arguments, timeout):
                if arguments[0] == "tools/smoke_test.py":
                    return smoke, "Python 3.99, torch 9\nok  doctor\n14 passed, 1 failed"
                return tests, "...\n===== 7 passed in 3 s ====="

        def fail(*arguments):
            raise Unavailable("the disk is full")

        place = Place((), (), tmp_path / "place")
        monkeypatch.setattr(version_matrix, "find_uv", lambda: "uv")
        monkeypatch.setattr(version_matrix, "index_flags", list)
        monkeypatch.setattr(version_matrix, "build_wheel", lambda uv, work: work / "ours.whl")
        monkeypatch.setattr(version_matrix, "python_environment", lambda python, work, uv: place)
        monkeypatch.setattr(version_matrix, "install", install or (lambda *arguments: None))
        if install == "fails":
            monkeypatch.setattr(version_matrix, "install", fail)
        code = version_matrix.main(["--work", str(tmp_path), "--only", "constraints.txt"])
        [line] = capsys.readouterr().out.splitlines()
        return code, line

    return try_row


def test_row_that_passes_is_reported(try_with, tmp_path):
    code, line = try_with(0, 0)
    assert code == 0
    assert line.startswith("ok        Python 3.11, constraints.txt ")
    assert "Python 3.99, torch 9: smoke test 14 passed, 1 failed; tests 7 passed in 3 s" in line
    [log] = (tmp_path / "logs").iterdir()
    assert "ok  doctor" in log.read_text()
    assert str(log) in line


@pytest.mark.parametrize(("smoke", "tests"), [(1, 0), (0, 1)])
def test_row_that_fails_is_reported(try_with, smoke, tests):
    code, line = try_with(smoke, tests)
    assert code == 1
    assert line.startswith("FAILED    Python 3.11, constraints.txt ")


def test_row_that_cannot_be_installed_is_not_a_failure(try_with):
    code, line = try_with(0, 0, install="fails")
    assert code == 0
    assert line.startswith("not tried Python 3.11, constraints.txt ")
    assert "the disk is full" in line


def test_chosen_tests_replace_the_default_ones(tmp_path, monkeypatch):
    ran = []

    def try_row(row, *arguments):
        ran.append(arguments[-1])
        return version_matrix.Result(row)

    monkeypatch.setattr(version_matrix, "find_uv", lambda: "uv")
    monkeypatch.setattr(version_matrix, "index_flags", list)
    monkeypatch.setattr(version_matrix, "build_wheel", lambda uv, work: work / "ours.whl")
    monkeypatch.setattr(version_matrix, "try_row", try_row)
    command = ["--work", str(tmp_path), "--only", "constraints.txt"]
    assert version_matrix.main(command) == 0
    assert version_matrix.main([*command, "--tests", "tests/a", "tests/b"]) == 0
    assert ran == [version_matrix.TESTS, ["tests/a", "tests/b"]]
