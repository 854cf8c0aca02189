"""`--help` of every verb answers without the heavy libraries, and at once. benchmarks/startup.py measures it on the clock."""

import subprocess
import sys

import pytest

from llm_scratch.cli import VERBS

HEAVY = {"torch", "numpy", "transformers", "matplotlib", "tiktoken", "safetensors"}
CODE = """
import sys
from llm_scratch.cli import main
for words in {words!r}:
    assert main([*words, "--help"]) == 0, words
print("loaded:", *sys.modules)
"""


def test_help_loads_nothing_heavy():
    words = [[], *(verb.split() for verb in VERBS)]
    done = subprocess.run([sys.executable, "-c", CODE.format(words=words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said, _, loaded = done.stdout.rpartition("loaded:")
    assert "llm_scratch.cli" in loaded
    assert not HEAVY & set(loaded.split())
    for verb in VERBS:
        assert verb.split()[-1] in said


@pytest.mark.parametrize("words", ["--help", "train --help", "generate --help"])
def test_help_takes_less_than_four_tenths_of_a_second(words):
    """Of processor time, the best of five: other work on the machine only adds to it."""
    resource = pytest.importorskip("resource", reason="needs the processor time of a child, which Windows does not tell")

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    found = []
    for _ in range(5):
        before = spent()
        subprocess.run([sys.executable, "-m", "llm_scratch", *words.split()], stdout=subprocess.DEVNULL, check=True)
        found.append(spent() - before)
    assert min(found) < 0.4
