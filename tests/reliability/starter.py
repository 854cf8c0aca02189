"""Starts `llm-scratch` from a process that has imported everything: a command then begins in a tenth of a second instead of two.

Reads a line of JSON from stdin and answers with one on stdout. `{"words": [...], "log": path}` starts a command whose output goes
to `log`, and gives its process id; `{"wait": id}` waits for its end and gives its exit code. The command is a process of its own,
which can be killed like any other; its number stays its own until it is waited for.
"""

import json
import os
import sys
from importlib import import_module

from llm_scratch.cli import main

NEEDED = """
    llm_scratch.cli.train llm_scratch.cli.device llm_scratch.cli.progress llm_scratch.training.loop torch._dynamo
    matplotlib.pyplot matplotlib.backends.backend_agg matplotlib.backends.backend_pdf"""


def run(words: list[str], log: str) -> int:
    """The command in this process, its output in `log`."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(number, stream)
    os.setsid()
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    for name in NEEDED.split():
        import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            os._exit(run(**asked))
