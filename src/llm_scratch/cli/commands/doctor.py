"""`doctor`: what this machine has, what is missing, and the command that fixes it.

Tests: tests/cli/test_doctor.py. The diagnosis of a run: `runs diagnose`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch import __version__
from llm_scratch.cli.flags import Flag, ReportCommand
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import machine_json
from llm_scratch.cli.styles import GOOD, PROBLEM
from llm_scratch.cli.terminal import console, table
from llm_scratch.errors import UserError
from llm_scratch.extras import EXTRAS
from llm_scratch.formatting import counted, format_bytes, quote, shell_command
from llm_scratch.hardware.processor import cpu_count
from llm_scratch.storage.user_folders import find_cache_folder, is_read_only

if TYPE_CHECKING:
    from rich.console import Console

SET_CACHE = "export LLM_SCRATCH_CACHE=FOLDER"
CORE = (
    "torch",
    "numpy",
    "regex",
    "safetensors",
    "tyro",
    "rich",
    "pyyaml",
    "tiktoken",
    "matplotlib",
)
PIP = quote(sys.executable, "-m", "pip")
NVIDIA = Path("/proc/driver/nvidia/version")  # exists when the driver is loaded
MIN_FREE_BYTES = 2 << 30
"""Free memory, and free disk space, that the quickstart preset runs well with."""


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: what was checked.
        value: what was found.
        fix: the command that helps; "" when nothing is wrong.
    """

    name: str
    value: str
    fix: str = ""


@dataclass(frozen=True)
class Doctor(ReportCommand):
    """Check this machine: what is installed, what is missing, how to fix it.

    The diagnosis of a training run is `llm-scratch runs diagnose RUN`.

    examples:
      llm-scratch doctor
      llm-scratch doctor --remeasure
    """

    remeasure: Flag = False
    """time matrix products again instead of using the stored timings of this machine"""

    @classmethod
    def defaults(
        cls, words: list[str], set_flags: Mapping[str, str], help_requested: bool
    ) -> Doctor:
        """The command without flags; see `flags.parse`.

        Raises:
            UserError: an argument, such as the name of a run; names the command for it.
        """
        if words:
            raise UserError(
                f"doctor: unexpected argument {words[0]!r}; to check a run:"
                f" {shell_command('runs', 'diagnose', words[0])}"
            )
        return cls()

    def run(self) -> None:
        """Print the report."""
        rows = [*_python(), *_torch(), *_memory_and_disk(), *_files(), *_packages()]
        if self.json:
            from llm_scratch.cli.capabilities import capabilities

            self._forget_measured()
            checks = [
                {"name": row.name, "found": row.value, "ok": not row.fix, "fix": row.fix}
                for row in rows
            ]
            print_json(machine_json(checks, capabilities()))
            return
        from rich.text import Text

        grid = table("", "", "", left=3)
        grid.show_header = False
        for row in rows:
            grid.add_row(Text("✗", PROBLEM) if row.fix else Text("✓", GOOD), row.name, row.value)
            if row.fix:
                grid.add_row("", "", Text(f"→ {row.fix}", "bold"))
        missing = sum(bool(row.fix) for row in rows)
        optional = (
            f"{counted(missing, 'thing')} could be better;"
            " `llm-scratch train quickstart` needs none of them."
        )
        screen = console()
        screen.print(grid)
        self._print_matmul_speeds(screen)
        screen.print(f"\n{optional if missing else 'Everything is installed.'}")

    def _forget_measured(self) -> None:
        """With `--remeasure`, drop what was measured before."""
        from llm_scratch.hardware.trials import clear_timings

        if self.remeasure:
            clear_timings()

    def _print_matmul_speeds(self, screen: Console) -> None:
        """Print which matrix products work on this processor, and how fast each is."""
        from llm_scratch.cli.capabilities import WIDTH, capabilities

        self._forget_measured()
        grid = table("matrix products", "works", "speed", "used", left=4)
        with screen.status("timing matrix products ..."):
            for each in capabilities():
                grid.add_row(each.name, each.works, each.speed, each.used)
        screen.print(
            f"\nMeasured for a model {WIDTH} wide, a prompt and its continuation;"
            " speed as a multiple of plain float32:"
        )
        screen.print(grid)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Iterator[Row]:
    yield Row(
        "llm-scratch",
        f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}",
    )
    for package in CORE:
        if _version(package) is None:
            yield Row(package, "not installed", f"{PIP} install {package}")


def _torch() -> Iterator[Row]:
    import torch

    if torch.version.cuda:
        build = f"CUDA {torch.version.cuda}"
    else:
        build = "MPS build" if torch.backends.mps.is_built() else "CPU build"
    yield Row("torch", f"{torch.__version__} ({build})")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory
            yield Row(
                "device",
                f"cuda:{index}, {torch.cuda.get_device_name(index)}, {format_bytes(memory)}",
            )
    elif torch.backends.mps.is_available():
        yield Row("device", "mps, Apple GPU")
    else:
        yield Row("device", *_without_gpu(torch.version.cuda))
    threads, cores = torch.get_num_threads(), cpu_count()
    few = threads < cores and "OMP_NUM_THREADS" in os.environ
    yield Row("threads", f"{threads} of {cores} cores", "unset OMP_NUM_THREADS" if few else "")


def _without_gpu(built_for: str | None) -> tuple[str, str]:
    """The value and the fix of a machine on which torch finds no GPU.

    Args:
        built_for: the CUDA version that torch was built for; None for a CPU build.
    """
    if not NVIDIA.exists():
        return "cpu; no CUDA or MPS device", ""
    if built_for:
        return (
            f"cpu; there is an NVIDIA driver, but no GPU that CUDA {built_for} can use",
            "nvidia-smi  (shows which CUDA the driver supports)",
        )
    version = _version("torch") or ""
    # PyPI has the CUDA builds. --force-reinstall: pip would consider this version installed.
    fix = f"{PIP} install --force-reinstall torch=={version.partition('+')[0]}"
    return f"cpu; there is an NVIDIA driver, but torch {version} is built for the CPU", fix


def _memory_and_disk() -> Iterator[Row]:
    from llm_scratch.hardware.memory import free_memory

    if (memory := free_memory()) is not None:
        low = (
            "close other programs, or use --train.micro-batches" if memory < MIN_FREE_BYTES else ""
        )
        yield Row("memory", f"{format_bytes(memory)} free", low)
    free = shutil.disk_usage(Path.cwd()).free
    fix = "" if free >= MIN_FREE_BYTES else "free some space, or train with --out elsewhere"
    yield Row("disk", f"{format_bytes(free)} free in {Path.cwd()}", fix)


def _files() -> Iterator[Row]:
    from llm_scratch.data.sources import DOWNLOADED, on_this_machine
    from llm_scratch.storage.download import offline
    from llm_scratch.tokenizers.gpt2 import on_this_machine as gpt2_here

    yield Row(
        "data folder", os.environ.get("LLM_SCRATCH_DATA") or "LLM_SCRATCH_DATA not set; not needed"
    )
    try:
        cache = find_cache_folder()
    except UserError as e:
        yield Row("cache", str(e), SET_CACHE)
        return
    instead = f" ({cache.reason}; set LLM_SCRATCH_CACHE to choose another)" if cache.reason else ""
    disabled = ", downloads disabled" if offline() else ""
    if is_read_only(cache.path):
        read_only = "is read-only: trials are repeated, new downloads fail"
        yield Row("cache", f"{cache.path} {read_only}", SET_CACHE)
    else:
        yield Row("cache", f"{cache.path}{instead}{disabled}")
    for name in DOWNLOADED:
        path = on_this_machine(name)
        yield Row(
            name,
            f"{path}" if path else "not downloaded yet",
            "" if path else f"llm-scratch data download {name}",
        )
    vocabulary = gpt2_here()
    yield Row(
        "gpt2",
        f"{vocabulary}" if vocabulary else "GPT-2's vocabulary not downloaded yet",
        "" if vocabulary else "llm-scratch data download gpt2",
    )


def _packages() -> Iterator[Row]:
    for name, extra in EXTRAS.items():
        for package in extra.packages:
            version = _version(package)
            value = f"{version or 'not installed'} (extra {name!r}: {extra.enables})"
            yield Row(package, value, "" if version else f"{PIP} install {package}")
