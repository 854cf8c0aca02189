"""Simulated computers, one per row: environment variables and changes to Python processes.

When a real computer breaks the program,
add a row that breaks it in the same way, then fix the program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SIMULATED = Path(__file__).parent / "simulated"
KEPT = ("PATH", "TIKTOKEN_CACHE_DIR", "LLM_SCRATCH_DATA")


@dataclass(frozen=True)
class Machine:
    """A computer to simulate.

    Args:
        name: part of the test names.
        environment: variables that differ from those of an ordinary machine; None removes one.
        changes: modules of `simulated/`,
            which every Python process of the machine imports before anything else.
        columns: width of its terminal; None runs commands without one.
        probe: a program, and a part of what it prints here (or of its error),
            to check that the simulation works.
    """

    name: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    changes: str = ""
    columns: int | None = None
    probe: tuple[str, str] = ("print(1)", "1")

    def variables(self, home: Path) -> dict[str, str]:
        """The environment of a process; `home` is the user's home folder."""
        ordinary = {name: os.environ.get(name) for name in KEPT} | {
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "LLM_SCRATCH_OFFLINE": "1",
            "MPLBACKEND": "Agg",
            "MPLCONFIGDIR": str(home / "matplotlib"),
            "OMP_NUM_THREADS": "1",  # the models are tiny
            "PYTHONPATH": str(SIMULATED),
            "SIMULATED": self.changes,
        }
        return {
            name: value
            for name, value in (ordinary | dict(self.environment)).items()
            if value is not None
        }


PACK = "import torch; torch.ops.mkldnn._reorder_linear_weight(torch.ones(64, 64).bfloat16(), None)"
CAPABILITY = "import torch; print(torch.backends.cpu.get_cpu_capability())"
ORDINARY = Machine("ordinary")

MACHINES = (
    ORDINARY,
    Machine(
        "no-bfloat16-packing",
        changes="no_bfloat16_packing",
        probe=(PACK, "bf16 path needs the cpu support"),
    ),
    Machine(
        "macos",
        changes="macos",
        probe=("import torch; print(torch.backends.mkldnn.is_available())", "False"),
    ),
    Machine(
        "avx2",
        {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        },
        probe=(CAPABILITY, "AVX2"),
    ),
    Machine(
        "sse41",
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
        probe=(CAPABILITY, "DEFAULT"),
    ),
    Machine(
        "no-compiler",
        {"PATH": "/nonexistent", "CXX": None},
        probe=("import shutil; print(shutil.which('g++'), shutil.which('git'))", "None None"),
    ),
    Machine(
        "one-core",
        changes="one_core",
        probe=("import os; print(len(os.sched_getaffinity(0)), os.cpu_count())", "1 1"),
    ),
    Machine(
        "windows",
        {"PYTHONIOENCODING": "cp1252"},
        changes="windows",
        probe=(
            "import llm_scratch.storage.files as files; print(files.os.name); files.os.pwrite",
            "no attribute 'pwrite'",
        ),
    ),
    Machine(
        "no-shared-memory",
        changes="no_shared_memory",
        probe=(
            "import multiprocessing; multiprocessing.get_context('spawn').Lock()",
            "Function not implemented",
        ),
    ),
    Machine(
        "nameless-user",
        {"HOME": None, "MPLCONFIGDIR": None},
        changes="nameless_user",
        probe=("import pathlib; pathlib.Path.home()", "Could not determine home directory"),
    ),
    Machine(
        "narrow-terminal",
        {"TERM": "xterm"},
        columns=40,
        probe=("import os; print(os.get_terminal_size())", "columns=40"),
    ),
    Machine(
        "no-color",
        {"TERM": "xterm", "NO_COLOR": "1"},
        columns=80,
        probe=("print(open('/dev/tty').isatty())", "True"),
    ),
    Machine(
        "dumb-terminal",
        {"TERM": "dumb"},
        columns=80,
        probe=("import os; print(os.environ['TERM'])", "dumb"),
    ),
    Machine(
        "mps",
        changes="mps",
        probe=("import torch; torch.ones(1, device='mps').double()", "doesn't support float64"),
    ),
)
