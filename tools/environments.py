"""Environments to test the package in: a Python of this machine, or one of Debian's in a folder.

A folder with Debian's Python is used where this machine lacks a version, and for another processor:
its Python then runs under QEMU's user-mode emulation. debootstrap fetches the packages. proot runs
this machine's programs in the folder; QEMU itself finds the libraries of another processor's there.
So no root rights and no kernel setting are needed. Packages from PyPI are installed from outside,
by uv, which can choose wheels for another Python and processor.

Tests: tests/tools/test_version_matrix.py. Why QEMU without proot: LOG.md, 2026-11-30.
Sources: https://wiki.debian.org/Debootstrap, https://www.qemu.org/docs/master/user/main.html,
https://docs.astral.sh/uv/pip/compile/.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEBIAN_SUITES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "testing"}
DEBIAN_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Unavailable(Exception):
    """An environment that is unavailable on this machine; the message is the reason."""


def run_quietly(command: Sequence[str | Path]) -> None:
    """Run a command without its output; Unavailable with the last lines of it if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise Unavailable(f"`{' '.join(words[:4])} ...` failed: {' '.join(lines[-3:])[-300:]}")


@dataclass(frozen=True)
class Environment:
    """An environment: how to install into it, and how to run its Python.

    Args:
        python: the command that starts Python there.
        uv_flags: for `uv pip install`: the target, and for which Python and processor.
        folder: where the source tree is copied to; programs run there.
        variables: environment variables of those programs, beside this process's own.
    """

    python: tuple[str, ...]
    uv_flags: tuple[str, ...]
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, timeout: float) -> tuple[int, str]:
        """Run Python in the source tree: (exit code, output). 124 means a timeout."""
        command = [*self.python, *arguments]
        env = os.environ | self.variables
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=env,
                text=True,
                errors="replace",
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout or b""
            return 124, output.decode(errors="replace") if isinstance(output, bytes) else output
        return done.returncode, done.stdout


def find_python(version: str) -> Path | None:
    """A working `python3.N` of this machine, on the search path or in pyenv's folder."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [Path(sys.executable), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    on_path = shutil.which(f"python{version}")
    for path in [*found, *([Path(on_path)] if on_path else [])]:
        code = "import sys, ensurepip, ssl; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        if done.stdout.strip() == version:  # pyenv's shims exist for versions that do not run
            return path
    return None


def local_environment(version: str, work: Path, uv: str) -> Environment:
    """A virtual environment of one of this machine's Pythons; Unavailable if there is none."""
    python = find_python(version)
    if python is None:
        raise Unavailable(f"no Python {version} with ssl and ensurepip on PATH or in pyenv")
    run_quietly([uv, "venv", "--clear", "--python", python, work / "venv"])
    interpreter = str(work / "venv" / "bin" / "python")
    return Environment((interpreter,), ("--python", interpreter), work / "source")


def python_environment(version: str, work: Path, uv: str) -> Environment:
    """A Python of this machine, else Debian's for the same processor; Unavailable if neither is."""
    try:
        return local_environment(version, work, uv)
    except Unavailable as first:
        try:
            return debian_environment(version, platform.machine(), "", work)
        except Unavailable as second:
            raise Unavailable(f"{first}; {second}") from None


def install_debian_tools(machine: str) -> None:
    """Install the missing programs for a Debian folder as root; Unavailable for any other user."""
    packages = {"debootstrap": "debootstrap"}  # program -> its package
    if os.geteuid():
        packages["fakeroot"] = "fakeroot"
    if machine == platform.machine():
        packages["proot"] = "proot"
    else:
        packages[emulator(machine)] = "qemu-user-static"
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", *missing]
    if os.geteuid() or not shutil.which("apt-get"):
        raise Unavailable(f"needs Debian's {', '.join(missing)}: sudo {' '.join(command)}")
    run_quietly(["apt-get", "update"])
    run_quietly(command)


def debian_folder(suite: str, machine: str, work: Path) -> Path:
    """A folder with Debian's Python for a processor, made once: packages unpacked, not set up."""
    folder = work / f"debian-{suite}-{machine}"
    complete = folder / "complete"
    if complete.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    fake_root = ["fakeroot"] if os.geteuid() else []
    command = [*fake_root, "debootstrap", "--foreign", f"--arch={DEBIAN_MACHINES[machine]}"]
    run_quietly([*command, "--variant=minbase", "--include=python3", suite, folder])
    for package in sorted(folder.glob("var/cache/apt/archives/*.deb")):
        run_quietly(["dpkg-deb", "--extract", package, folder])
    (folder / "etc" / "passwd").write_text(f"user:x:{os.getuid()}:{os.getgid()}::/:/bin/sh\n")
    complete.touch()
    return folder


def emulator(machine: str) -> str:
    """The program that runs another processor's programs."""
    return f"qemu-{machine}-static"


def emulated_python(root: Path, machine: str, cpu: str) -> Path:
    """A script that starts the Python of a Debian folder of another processor under QEMU.

    Python takes it for its own executable, so that the Python processes it starts are emulated too.
    """
    script = root / "usr" / "bin" / "emulated-python"
    qemu = shutil.which(emulator(machine)) or emulator(machine)
    command = shlex.join([qemu, "-L", str(root), *(["-cpu", cpu] if cpu else [])])
    python = shlex.quote(str(script.with_name("python3")))
    script.write_text(f'#!/bin/sh\nexec {command} -0 "$0" {python} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script


def proot_python(root: Path, work: Path) -> tuple[str, ...]:
    """The command that starts the Python of a Debian folder of this machine's processor.

    What programs write is bound to the path that it has outside. Variables such as SSL_CERT_FILE
    name certificates below /etc/ssl.
    """
    system = "/proc", "/dev", "/sys", "/etc/ssl"
    shared = (*system, str(work), os.environ.get("LLM_SCRATCH_DATA", ""))
    binds = tuple(word for path in shared if path and Path(path).is_dir() for word in ("-b", path))
    return ("proot", "-r", str(root), *binds, "-w", str(work / "source"), "/usr/bin/python3")


def debian_environment(version: str, machine: str, cpu: str, work: Path) -> Environment:
    """Debian's Python in a folder, emulated where the processor is another; else Unavailable.

    Args:
        version: of Python, "3.11"; one that a suite of Debian has.
        machine: the processor, as `uname -m` prints it.
        cpu: a model that QEMU knows ("cortex-a72"), or "" for this machine's own processor.
    """
    if sys.platform != "linux":
        raise Unavailable("Debian's programs run on Linux alone")
    if version not in DEBIAN_SUITES or machine not in DEBIAN_MACHINES:
        raise Unavailable(f"no suite of Debian has Python {version} for {machine}")
    install_debian_tools(machine)
    root = debian_folder(DEBIAN_SUITES[version], machine, work)
    for name in ("packages", "source", "home"):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir()
    emulated = machine != platform.machine()
    python = (str(emulated_python(root, machine, cpu)),) if emulated else proot_python(root, work)
    packages_file = root / "usr" / "lib" / "python3" / "dist-packages" / "packages.pth"
    packages_file.write_text(f"{work / 'packages'}\n", encoding="utf-8")
    variables = {name: str(work / "home") for name in ("HOME", "TMPDIR")}
    variables |= {"PATH": "/nonexistent"} if emulated else {}  # compilers for this processor
    environment = Environment(
        python,
        (
            "--target",
            str(work / "packages"),
            "--python-version",
            version,
            "--python-platform",
            f"{machine}-manylinux_2_28",
        ),
        work / "source",
        variables,
    )
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    status, output = environment.run("-c", code, timeout=120)
    if output.split()[-1:] != [version]:
        suite = DEBIAN_SUITES[version]
        said = f"{output.strip()[-200:]!r}, exit code {status}"
        raise Unavailable(f"Debian's {suite} has no Python {version}: {said}")
    return environment
