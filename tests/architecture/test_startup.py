"""`--help` of every command needs no heavy library and little work.

benchmarks/startup.py measures it on the clock.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS

from llm_scratch.cli import COMMANDS

TESTS = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numpy", "transformers", "matplotlib", "tiktoken", "safetensors"}
HEAVY |= {"rich.console", "http.client"}
CODE = """
import sys
from llm_scratch.cli import main
for words in {words!r}:
    assert main([*words, "--help"]) == 0, words
print("loaded:", *sys.modules)
"""


def test_help_loads_nothing_heavy():
    words = [[], *(verb.split() for verb in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(words=words)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    output, _, loaded = done.stdout.rpartition("loaded:")
    assert "llm_scratch.cli" in loaded
    assert not HEAVY & set(loaded.split())
    for verb in COMMANDS:
        assert verb.split()[-1] in output


WORK = """
import contextlib, io, sys
modules = len(sys.modules)
with contextlib.redirect_stdout(io.StringIO()):
    if {count_lines}:
        sys.path.insert(0, {tests!r})
        from effort import at_most

        with at_most() as effort:
            from llm_scratch.cli import main
            assert main({words!r}) == 0
    else:
        from llm_scratch.cli import main
        assert main({words!r}) == 0
print(effort.lines if {count_lines} else len(sys.modules) - modules)
"""


def work(words: list[str], count_lines: bool) -> int:
    """Return the lines of Python that a command executes, or the modules that it imports."""
    code = WORK.format(words=words, count_lines=count_lines, tests=str(TESTS))
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    ("words", "max_modules", "max_lines"),
    [
        ("--help", 80, 10_000),  # when this was written: 48 and 2,200
        ("train --help", 320, 1_500_000),  # 277 and 820,000, nearly all of them of tyro
        ("generate --help", 300, 1_500_000),  # 257 and 610,000
    ],
)
def test_help_imports_few_modules_and_executes_few_lines(words, max_modules, max_lines):
    assert 0 < work(words.split(), count_lines=False) <= max_modules
    assert 0 < work(words.split(), count_lines=True) <= max_lines


@pytest.mark.timing
@pytest.mark.parametrize("words", ["--help", "train --help", "generate --help"])
def test_help_takes_less_than_four_tenths_of_a_second(words):
    """Take the lowest processor time of five runs, since other load only adds to it."""
    resource = pytest.importorskip(
        "resource", reason="needs the processor time of a child, which Windows does not report"
    )

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    found = []
    for _ in range(5):
        before = spent()
        subprocess.run(
            [sys.executable, "-m", "llm_scratch", *words.split()],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        found.append(spent() - before)
    assert min(found) < 0.4
