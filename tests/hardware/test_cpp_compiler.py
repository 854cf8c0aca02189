"""Whether a C++ compiler works is found by compiling a small program."""

import shutil
import sys

import pytest

from llm_scratch.hardware.cpp_compiler import accepts_option, compiler_problem


def test_working_compiler(monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    monkeypatch.setenv("CXX", "g++")
    assert compiler_problem() == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no-such-compiler", "no-such-compiler is not installed"),
        ("", "the empty variable CXX is not installed"),
    ],
)
def test_missing_compiler(name, problem, monkeypatch):
    monkeypatch.setenv("CXX", name)
    assert compiler_problem() == problem


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler here is a shell script")
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "echo 'In file ...' >&2; echo 'fatal error: vector: no such file' >&2; exit 1",
            "cannot compile a small program (fatal error: vector: no such file)",
        ),
        ("exit 3", "cannot compile a small program (exit 3)"),
    ],
)
def test_compiler_that_fails(script, problem, tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert compiler_problem() == f"{compiler} {problem}"


def test_options_that_the_compiler_knows(monkeypatch):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    monkeypatch.setenv("CXX", "g++")
    assert accepts_option("-O2")
    assert not accepts_option("-no-such-option=256")


@pytest.mark.parametrize("compiler", ["no-such-compiler", ""])
def test_missing_compiler_accepts_no_option(compiler, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    assert not accepts_option("-O2")
