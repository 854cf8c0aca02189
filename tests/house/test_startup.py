"""`--help` of every verb answers without the heavy libraries. How long it takes is measured by benchmarks/startup.py."""

import subprocess
import sys

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
