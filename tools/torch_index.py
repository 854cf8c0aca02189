"""Print the pip flags that get the smallest PyTorch this machine can use; for the Makefile.

On Linux, pip's default build of torch contains CUDA: several gigabytes that need an NVIDIA GPU.
PyTorch's own CPU index has the same release without them, as `2.13.0+cpu`. pip takes the highest
version of all its indexes, and `2.13.0+cpu` is higher than `2.13.0` and satisfies `torch==2.13.0`,
so one `--extra-index-url` is enough. Proxies from the environment (HTTPS_PROXY) are used, as pip
does. On macOS and Windows pip's default build is small already. Needs nothing but Python.

    python tools/torch_index.py        # flags on stdout, the reason in one line on stderr

Tests: tests/tools/test_torch_index.py.
Source: https://packaging.python.org/en/latest/specifications/version-specifiers/
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import threading
import urllib.request
from http.client import HTTPException
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
TIMEOUT_SECONDS = 5.0  # for name lookup, connection and the whole page together
DRIVER_FILES = (
    "proc/driver/nvidia/version",  # the kernel module, visible in containers too
    "usr/lib/wsl/lib/nvidia-smi",  # Windows' driver, lent to Linux by WSL 2
    "etc/nv_tegra_release",  # Jetson: the GPU is part of the chip
)


def nvidia_driver(root: Path, search_path: str) -> str | None:
    """Find an NVIDIA driver: the path of the file that shows it, or None.

    Args:
        root: the root folder of the file system, `/` except in tests.
        search_path: folders to search for nvidia-smi, in the format of PATH.
    """
    found = next((str(root / file) for file in DRIVER_FILES if (root / file).exists()), None)
    return found or shutil.which("nvidia-smi", path=search_path)


def pinned_release(constraints: Path) -> str | None:
    """The release of torch that a constraints file pins with `torch==`, or None."""
    lines = constraints.read_text(encoding="utf-8")
    pin = re.search(r"^torch==([\w.]+)", lines, flags=re.MULTILINE)
    return pin and pin[1]


def installed_release() -> str | None:
    """The release of torch installed for this Python, without `+cpu` or the like; or None."""
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def read_page(url: str, seconds: float) -> str:
    """Download a page, or raise OSError.

    `seconds` limits the whole download; the time-out of urllib would start again at each read.
    """
    outcome: list[str | OSError] = []

    def download() -> None:
        try:
            opener = urllib.request.build_opener()  # follows HTTPS_PROXY and NO_PROXY
            with opener.open(url, timeout=seconds) as answer:
                outcome.append(answer.read().decode("utf-8", errors="replace"))
        except (OSError, ValueError, HTTPException) as error:  # the last two: malformed proxies
            outcome.append(OSError(getattr(error, "reason", error)))

    # A name lookup cannot be interrupted; as a daemon it does not delay the exit.
    thread = threading.Thread(target=download, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise OSError(f"no answer within {seconds:g} s")
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


def has_wheel(page: str, release: str | None) -> bool:
    """True if a page of the index links a CPU wheel of torch for this Python and processor.

    `release` is the wanted release, or None for any.
    """
    python = "cp{}{}".format(*sys.version_info[:2])
    version = re.escape(release) if release else r"[\d.]+"
    wheel = rf"torch-{version}(?:%2B|\+)cpu-{python}-{python}-\w*{platform.machine()}\.whl"
    return re.search(wheel, page) is not None


def choose(
    release: str | None,
    root: Path,
    search_path: str,
    index: str = CPU_INDEX,
    seconds: float = TIMEOUT_SECONDS,
) -> tuple[str, str]:
    """Choose the build of torch to install on Linux: (flags for pip, the reason in one line)."""
    driver = nvidia_driver(root, search_path)
    if driver:
        return "", f"torch: pip's default build, with CUDA: found an NVIDIA driver ({driver})"
    default = "torch: pip's default build, which may be several GB of CUDA: no NVIDIA driver, but"
    try:
        page = read_page(f"{index}/torch/", seconds)
    except OSError as error:
        return "", f"{default} {index} cannot be reached ({error})"
    if not has_wheel(page, release):
        wanted = f"torch {release or ''} for Python {platform.python_version()}"
        return "", f"{default} {index} has no {wanted} on {platform.machine()}"
    reason = f"torch: the CPU build of {index}: no NVIDIA driver was found"
    return f"--extra-index-url {index}", f"{reason} (to choose: make PIP_FLAGS=...)"


def main() -> None:
    """Print the flags, unless torch is installed or the system has only one build of it."""
    release = pinned_release(Path(__file__).resolve().parent.parent / "constraints.txt")
    installed = installed_release()
    is_installed = installed is not None and release in (None, installed)
    if is_installed or sys.platform != "linux":
        return
    flags, reason = choose(release, Path("/"), os.environ.get("PATH", os.defpath))
    print(reason, file=sys.stderr)
    print(flags)


if __name__ == "__main__":
    main()
