"""Find out whether this machine has a C++ compiler that works, which compiled programs need.

A compiler may be installed without its headers or without OpenMP, so it translates one small
program. PyTorch takes the program that the variable CXX names, else g++.
Tests: tests/hardware/test_cpp_compiler.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache

from llm_scratch.errors import describe_error

PROGRAM = b"#include <cmath>\n#include <vector>\nint main() { return 0; }\n"
MAX_SECONDS = 60


def compiler_problem() -> str:
    """Why C++ programs cannot be compiled here, such as "g++ is not installed"; "" if they can."""
    return _problem(os.environ.get("CXX", "g++"))


@cache
def _problem(compiler: str) -> str:
    if shutil.which(compiler) is None:
        return f"{compiler or 'the empty variable CXX'} is not installed"
    if sys.platform == "win32":  # its compiler has other options
        return ""
    options = ["-fopenmp"] if sys.platform == "linux" else []
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "program")
        command = [compiler, *options, "-x", "c++", "-", "-o", output]
        try:
            done = subprocess.run(command, input=PROGRAM, capture_output=True, timeout=MAX_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as e:
            return f"{compiler} does not run ({describe_error(e)})"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").split("\n")
    reason = next((line for line in lines if "error" in line), lines[0]).strip()
    return f"{compiler} cannot compile a small program ({reason or f'exit {done.returncode}'})"


def accepts_option(option: str) -> bool:
    """Whether the compiler knows an option, such as "-mmove-max=256" of GCC 12."""
    return _accepts(os.environ.get("CXX", "g++"), option)


@cache
def _accepts(compiler: str, option: str) -> bool:
    command = [compiler, option, "-x", "c++", "-fsyntax-only", "-"]
    program = b"int main() { return 0; }\n"
    try:
        done = subprocess.run(command, input=program, capture_output=True, timeout=MAX_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
