"""C2: import, help, training and generation use no network: no connection, no name lookup."""

from __future__ import annotations

import subprocess
import sys

from effort import PATIENCE_SECONDS

SCRIPT = """
import os, sys
said = []
calls = ("connect", "sendto", "getaddrinfo", "gethostbyname", "bind", "sendmsg")

def hook(event, args):
    if event in [f"socket.{call}" for call in calls]:
        said.append(f"{event} {args[1:] if event != 'socket.getaddrinfo' else args[:2]}")

sys.addaudithook(hook)
import llm_scratch
for name in dir(llm_scratch):
    getattr(llm_scratch, name)
from llm_scratch.cli import COMMANDS, main

codes = [main(["--help"]), main(["--version"]), main(["config"])]
codes += [main([*verb.split(), "--help"]) for verb in COMMANDS]
text = "the hen sat on the red mat, and the fox ran off.\\n" * 60
open("hens.txt", "w").write(text)
words = '''train shakespeare --data.source file:hens.txt --data.tokenizer chars --out run
    --model.vocab-size 40 --model.context-length 16 --model.emb-dim 16 --model.n-heads 2
    --model.n-layers 1 --train.steps 4 --train.batch-size 2 --train.eval-every 2
    --train.sample-every 2 --train.save-every 2 --train.prompt the'''
codes.append(main(words.split()))
codes.append(main(["generate", "run", "the hen", "--max-tokens", "5"]))
codes.append(main(["evaluate", "run"]))
print("codes", set(codes), "talks", said)
"""


def run(folder, command):
    """Run the script in a process without the variables that keep libraries offline."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "PYTHONPATH": ":".join(sys.path),
    }
    return subprocess.run(
        [*command, sys.executable, "-c", SCRIPT],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


def no_network():
    """Return a command prefix that isolates the network, or None where that is not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        try:
            if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None


def test_c2_no_network_connection(tmp_path, measured):
    alone = no_network()
    done = run(tmp_path, alone or [])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "codes {0} talks []", done.stdout[-2000:] + done.stderr
    where = (
        "in an isolated network namespace"
        if alone
        else "monitored by Python's audit hook (namespaces are not allowed here)"
    )
    measured(
        "C2",
        f"0 connections, 0 name lookups at import, --help, train, generate, evaluate; {where}",
        "0 connections",
    )


def test_c2_connection_monitor_detects_connections(tmp_path):
    script = (
        SCRIPT.partition("import llm_scratch")[0]
        + "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError:"
        " pass\nprint(said)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert "socket.getaddrinfo" in done.stdout
    assert "socket.connect" in done.stdout
