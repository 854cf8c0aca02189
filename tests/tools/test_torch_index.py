"""tools/torch_index.py: the build of torch that `make` installs.

The file system is a temporary folder, and the index a server on this machine.
"""

import functools
import http.server
import os
import platform
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch_index
from torch_index import choose, pinned_release

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "cp{}{}".format(*sys.version_info[:2])


def link(release: str, python: str = PYTHON, machine: str | None = None) -> str:
    """A link as PyTorch's CPU index writes it."""
    machine = machine or platform.machine()
    name = f"torch-{release}%2Bcpu-{python}-{python}-manylinux_2_28_{machine}.whl"
    return f'<a href="/whl/cpu/{name}#sha256=00">{name.replace("%2B", "+")}</a><br/>\n'


class Index(http.server.BaseHTTPRequestHandler):
    """Answer with `server.page`: at once, or if `server.slow` byte by byte until `hurry` is set."""

    def do_GET(self):
        self.server.requests.append(self.path)
        page = self.server.page.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        while self.server.slow and len(page) > 1 and not self.server.hurry.wait(0.05):
            self.wfile.write(page[:1])
            page = page[1:]
        self.wfile.write(page)

    def log_message(self, *args):
        """Log no requests to stderr."""


@pytest.fixture
def index(monkeypatch) -> Iterator[http.server.ThreadingHTTPServer]:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.requests, server.page = [], link("2.13.0")
    server.slow, server.hurry = False, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hurry.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_cpu_index_is_used_without_an_nvidia_driver(index, tmp_path):
    flags, reason = choose("2.13.0", tmp_path, "", index.url)
    assert flags == f"--extra-index-url {index.url}"
    assert "no NVIDIA driver was found" in reason
    assert "\n" not in reason
    assert index.requests == ["/torch/"]


@pytest.mark.parametrize("file", torch_index.DRIVER_FILES)
def test_default_build_is_kept_with_an_nvidia_driver(index, tmp_path, file):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    flags, reason = choose("2.13.0", tmp_path, "", index.url)
    assert flags == ""
    assert str(tmp_path / file) in reason
    assert not index.requests


@pytest.mark.skipif(sys.platform == "win32", reason="the driver matters on Linux only")
def test_nvidia_smi_keeps_the_default_build(index, tmp_path):
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.touch(0o755)
    flags, reason = choose("2.13.0", tmp_path, str(program.parent), index.url)
    assert flags == ""
    assert str(program) in reason


@pytest.mark.parametrize(
    "page",
    [
        link("2.12.0"),
        link("2.13.0", python="cp27"),
        link("2.13.0", machine="riscv"),
        link("2.13.0").replace(f"{PYTHON}-{PYTHON}", f"{PYTHON}-{PYTHON}t"),
        link("2.13.0").replace("%2Bcpu", "").replace("+cpu", ""),
        "Please log in",
    ],
    ids=["release", "Python", "processor", "free-threaded", "CUDA", "no index"],
)
def test_cpu_index_without_the_wheel_is_not_used(index, tmp_path, page):
    index.page = page
    flags, reason = choose("2.13.0", tmp_path, "", index.url)
    assert flags == ""
    assert "has no torch 2.13.0 for Python" in reason


def test_any_torch_release_is_accepted_when_none_is_pinned(index, tmp_path):
    index.page = link("2.99.0")
    assert choose(None, tmp_path, "", index.url)[0]


def test_unreachable_cpu_index_is_not_used(index, tmp_path):
    index.shutdown()
    index.server_close()
    flags, reason = choose("2.13.0", tmp_path, "", index.url)
    assert flags == ""
    assert "cannot be reached" in reason


def test_slow_cpu_index_is_given_up(index, tmp_path):
    index.slow = True  # no single read takes long; only a limit for the whole page ends this
    flags, reason = choose("2.13.0", tmp_path, "", index.url, seconds=0.3)
    assert flags == ""
    assert "no answer within 0.3 s" in reason


def test_cpu_index_request_uses_the_proxy(index, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", index.url)
    flags, _ = choose("2.13.0", tmp_path, "", "http://index.invalid/whl/cpu")
    assert flags == "--extra-index-url http://index.invalid/whl/cpu"
    assert index.requests == ["http://index.invalid/whl/cpu/torch/"]


@pytest.mark.parametrize(
    "proxy",
    ["http://127.0.0.1:1", "nonsense://", "http://127.0.0.1:port", "http:/no-host"],
)
def test_cpu_index_request_ignores_a_broken_proxy(index, tmp_path, monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    flags, reason = choose("2.13.0", tmp_path, "", "http://index.invalid/whl/cpu")
    assert flags == ""
    assert "cannot be reached" in reason


@pytest.mark.parametrize(
    ("system", "installed", "asks"),
    [
        ("linux", None, True),
        ("linux", "1.0", True),
        ("linux", "pinned", False),
        ("darwin", None, False),
        ("win32", None, False),
    ],
)
def test_cpu_index_is_requested_before_an_install_on_linux(
    monkeypatch,
    capsys,
    system,
    installed,
    asks,
):
    pinned = pinned_release(ROOT / "constraints.txt")
    assert pinned
    release = pinned if installed == "pinned" else installed
    monkeypatch.setattr(torch_index, "installed_release", lambda: release)
    monkeypatch.setattr(torch_index, "choose", lambda release, *_: (f"--flag {release}", "reason"))
    monkeypatch.setattr(sys, "platform", system)
    torch_index.main()
    out, err = capsys.readouterr()
    assert (out, err) == ((f"--flag {pinned}\n", "reason\n") if asks else ("", ""))


def test_installed_release_is_read_without_its_build_tag():
    import torch

    assert torch_index.installed_release() == torch.__version__.partition("+")[0]


def without(*starts: str) -> dict[str, str]:
    """The environment without the variables that start so, in upper or lower case."""
    return {name: os.environ[name] for name in os.environ if not name.upper().startswith(starts)}


def write_index(folder: Path, version: str) -> None:
    """A package index with one release of torch that contains nothing."""
    info = f"torch-{version}.dist-info"
    name = f"torch-{version}-py3-none-any.whl"
    (folder / "torch").mkdir(parents=True)
    with zipfile.ZipFile(folder / "torch" / name, "w") as wheel:
        name_and_version = f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n"
        wheel.writestr(f"{info}/METADATA", name_and_version)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    page = f'<!DOCTYPE html><a href="{name.replace("+", "%2B")}">{name}</a>'
    (folder / "torch" / "index.html").write_text(page)


@pytest.mark.parametrize(("main", "extra"), [("2.13.0", "2.13.0+cpu"), ("2.13.0+cpu", "2.13.0")])
def test_pip_takes_the_cpu_build_of_either_index(tmp_path, main, extra):
    pytest.importorskip("pip", reason="runs pip as the Makefile does")
    for name, version in (("main", main), ("extra", extra)):
        write_index(tmp_path / name, version)

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Log no requests to stderr."""

    handler = functools.partial(Files, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
        command += ["--index-url", f"{url}/main", "--extra-index-url", f"{url}/extra"]
        command += ["-d", str(tmp_path / "got"), "torch==2.13.0"]
        env = without("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        env["PIP_CONFIG_FILE"] = os.devnull
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert run.returncode == 0, run.stderr
    got = [path.name for path in (tmp_path / "got").iterdir()]
    assert got == ["torch-2.13.0+cpu-py3-none-any.whl"]


@pytest.mark.parametrize(
    ("made_in", "target", "works"),
    [("here", "setup", True), ("elsewhere", "setup", False), ("elsewhere", "clean", True)],
)
def test_makefile_says_that_a_moved_environment_does_not_work(tmp_path, made_in, target, works):
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = tmp_path / ".venv" if made_in == "here" else tmp_path / "elsewhere" / ".venv"
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ncommand = /usr/bin/python3 -m venv {environment}\n"
    )
    run = subprocess.run([make, "-n", target], cwd=tmp_path, capture_output=True, text=True)
    assert ("run `make clean`, then this again" not in run.stderr) == works


@pytest.mark.parametrize(
    ("arguments", "environment", "flags"),
    [
        ([], {}, "--chosen 1"),
        (["PIP_FLAGS=--mine 2"], {}, "--mine 2"),
        (["PIP_FLAGS="], {}, ""),
        ([], {"PIP_FLAGS": "--env 3"}, "--env 3"),
    ],
    ids=["chosen by the tool", "argument", "empty argument", "environment"],
)
def test_makefile_passes_the_flags_to_pip(tmp_path, arguments, environment, flags):
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "torch_index.py").write_text("print('--chosen 1')")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    record = f'if [ "$1" = -m ]; then echo "$*" >> pip.log; else exec {sys.executable} "$@"; fi'
    python.write_text(f"#!/bin/sh\n{record}\n")
    python.chmod(0o755)
    env = without("PIP_FLAGS", "MAKE", "MFLAGS") | environment
    command = [make, ".venv/installed", *arguments]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=240)
    expected = f"-m pip install --disable-pip-version-check -c constraints.txt {flags} -e ."
    assert (tmp_path / "pip.log").read_text().split() == expected.split()
