"""How this machine is: what it has, what is missing, what mends it (how a run is: letter.py). Proof: tests/cli/test_doctor.py."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from llm_scratch import __version__
from llm_scratch.cli.diagnosis import print_diagnosis
from llm_scratch.cli.flags import Flag, ReportCommand
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.result_json import machine_json
from llm_scratch.cli.styles import GOOD, PROBLEM
from llm_scratch.cli.terminal import console, table
from llm_scratch.errors import UserError
from llm_scratch.extras import EXTRAS
from llm_scratch.formatting import quote
from llm_scratch.storage.user_folders import find_cache_folder

CORE = ("torch", "numpy", "regex", "safetensors", "tyro", "rich", "pyyaml", "tiktoken", "matplotlib")
GIB = 2**30
PIP = quote(sys.executable, "-m", "pip")
NVIDIA = Path("/proc/driver/nvidia/version")  # is there when the driver is loaded
FREE_DISK, FREE_MEMORY = 2 * GIB, 2 * GIB  # what the quickstart is comfortable with


@dataclass(frozen=True)
class Row:
    """One line of the report. `mend` is the command that helps; "" when nothing is wrong."""

    what: str
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Doctor(ReportCommand):
    """How a RUN is, by its curve; without one, how this machine is.

    examples:
      llm-scratch doctor
      llm-scratch doctor runs/bard
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN", help_behavior_hint="")]] = ""
    """a run directory, or a preset (its newest run); the machine is looked at unless given"""
    remeasure: Flag = False
    """forget which matrix products were fastest on this machine, and time them again"""

    def run(self) -> None:
        """Print the report."""
        if self.run_:
            print_diagnosis(resolve_model_path(self.run_), self.json)
            return
        rows = [*_python(), *_torch(), *_room(), *_files(), *_packages()]
        if self.json:
            from llm_scratch.cli.capabilities import capabilities

            self._forget_measured()
            print_json(machine_json(rows, capabilities()))
            return
        grid = table("", "", "", left=3)
        grid.show_header = False
        for row in rows:
            grid.add_row(Text("✗", PROBLEM) if row.mend else Text("✓", GOOD), row.what, row.found)
            if row.mend:
                grid.add_row("", "", Text(f"→ {row.mend}", "bold"))
        missing = sum(bool(row.mend) for row in rows)
        could = f"{missing} thing{'s' * (missing != 1)} could be better; `llm-scratch train quickstart` needs none of them."
        screen = console()
        screen.print(grid)
        self._products(screen)
        screen.print(f"\n{could if missing else 'All is here.'}")

    def _forget_measured(self) -> None:
        """With `--remeasure`, drop what was measured before."""
        from llm_scratch.hardware.trials import forget_all

        if self.remeasure:
            forget_all()

    def _products(self, screen: Console) -> None:
        """Print what this processor multiplies fast, as trials found it."""
        from llm_scratch.cli.capabilities import WIDTH, capabilities

        self._forget_measured()
        grid = table("matrix products", "works", "speed", "used", left=4)
        with screen.status("timing matrix products ..."):
            for each in capabilities():
                grid.add_row(each.name, each.works, each.speed, each.used)
        screen.print(f"\nMeasured for a model {WIDTH} wide, a prompt and its continuation; speed as a multiple of plain float32:")
        screen.print(grid)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_count() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _python() -> Iterator[Row]:
    yield Row("llm-scratch", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    for package in CORE:
        if _version(package) is None:
            yield Row(package, "not installed", f"{PIP} install {package}")


def _torch() -> Iterator[Row]:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build" if not torch.backends.mps.is_built() else "MPS build"
    yield Row("torch", f"{torch.__version__} ({build})")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / GIB
            yield Row("device", f"cuda:{index}, {torch.cuda.get_device_name(index)}, {memory:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Row("device", "mps, Apple GPU")
    else:
        yield Row("device", *_without_gpu(torch.version.cuda))
    threads, cores = torch.get_num_threads(), cpu_count()
    few = threads < cores and "OMP_NUM_THREADS" in os.environ
    yield Row("threads", f"{threads} of {cores} cores", "unset OMP_NUM_THREADS" if few else "")


def _without_gpu(built_for: str | None) -> tuple[str, str]:
    """What to say of a machine on which torch finds no GPU; `built_for` is the CUDA that torch was built for, None for a CPU build."""
    if not NVIDIA.exists():
        return "cpu; no CUDA or MPS device", ""
    if built_for:
        return (
            f"cpu; there is an NVIDIA driver, but no GPU that CUDA {built_for} can use",
            "nvidia-smi  (shows which CUDA the driver knows)",
        )
    version = _version("torch") or ""
    same = version.partition("+")[0]  # pip's own index has the builds with CUDA; --force-reinstall, because the version is there already
    mend = f"{PIP} install --force-reinstall torch=={same}"
    return f"cpu; there is an NVIDIA driver, but torch {version} is built for the CPU", mend


def _room() -> Iterator[Row]:
    from llm_scratch.hardware.memory import free_memory

    if (memory := free_memory()) is not None:
        low = "close other programs, or use --train.micro-batches" if memory < FREE_MEMORY else ""
        yield Row("memory", f"{memory / GIB:.1f} GiB free", low)
    free = shutil.disk_usage(Path.cwd()).free
    yield Row(
        "disk", f"{free / GIB:.1f} GiB free in {Path.cwd()}", "" if free >= FREE_DISK else "free some space, or train with --out elsewhere"
    )


def _files() -> Iterator[Row]:
    from llm_scratch.data.sources import DOWNLOADED, on_this_machine
    from llm_scratch.storage.download import offline
    from llm_scratch.tokenizers.gpt2 import on_this_machine as gpt2_here

    yield Row("data folder", os.environ.get("LLM_SCRATCH_DATA") or "LLM_SCRATCH_DATA not set; not needed")
    try:
        cache = find_cache_folder()
    except UserError as e:
        yield Row("cache", str(e), "export LLM_SCRATCH_CACHE=FOLDER")
        return
    instead = f" ({cache.reason}; set LLM_SCRATCH_CACHE to choose another)" if cache.reason else ""
    yield Row("cache", f"{cache.path}{instead}" + (", network switched off" if offline() else ""))
    for name in DOWNLOADED:
        path = on_this_machine(name)
        yield Row(name, f"{path}" if path else "not downloaded yet", "" if path else f"llm-scratch data get {name}")
    here = gpt2_here()
    yield Row("gpt2", f"{here}" if here else "GPT-2's vocabulary not downloaded yet", "" if here else "llm-scratch data get gpt2")


def _packages() -> Iterator[Row]:
    for name, extra in EXTRAS.items():
        for package in extra.packages:
            version = _version(package)
            found = f"{version or 'not installed'} (extra {name!r}: {extra.enables})"
            yield Row(package, found, "" if version else f"{PIP} install {package}")
