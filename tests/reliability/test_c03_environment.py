"""C3: unusual paths, a read-only home, no terminal or a small one, no colors, LANG=C."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from effort import PATIENCE_SECONDS

TINY = """
    --data.tokenizer chars --data.val-fraction 0.2 --model.vocab-size 40 --model.context-length 16
    --model.emb-dim 16 --model.n-heads 2 --model.n-layers 1 --train.steps 4 --train.batch-size 2
    --train.eval-every 2 --train.eval-batches 2 --train.save-every 2 --train.sample-every 4
    --train.log-every 1 --train.prompt the --device cpu"""
TEXT = "the hen sat on the red mat, and the fox — naïve, žluťoučký — ran off.\n" * 60
PLACES = {
    "blanks": " a run  of mine ",
    "other scripts": "běh-тест-実行-🐔",
    "200 letters": "r" * 200,
}
TOGETHER = "together", " běh of  mine-тест-実行-🐔 " + "r" * 160
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture
def place(tmp_path, request):
    """A folder with an unusual name that contains a text."""
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / f"text of {request.param[:40]}.txt").write_text(TEXT, encoding="utf-8")
    return folder


def environment(folder, **changes):
    """A minimal environment: a home that not even root can write to, and the C locale."""
    bare = {"HOME": "/proc/nobody", "PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C"}
    return (
        bare
        | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path), "LLM_SCRATCH_OFFLINE": "1"}
        | changes
    )


BOTH = """
import json, sys
from llm_scratch.cli import main
for words in json.loads(sys.argv[1]):
    assert main(words) == 0
"""


def command(folder):
    """Train and generate a text, in one process."""
    text = next(folder.glob("*.txt"))
    train = [
        "train",
        "shakespeare",
        "--data.source",
        f"file:{text}",
        *TINY.split(),
        "--out",
        str(folder / "my run"),
    ]
    generate = ["generate", str(folder / "my run"), "the", "--max-tokens", "20"]
    return [sys.executable, "-c", BOTH, json.dumps([train, generate])]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(TOGETHER[1], id=TOGETHER[0]),
        *(pytest.param(name, id=what, marks=pytest.mark.slow) for what, name in PLACES.items()),
    ],
    indirect=True,
)
def test_c3_commands_work_without_terminal_home_or_unicode(place, request, measured):
    if os.name == "nt":
        pytest.skip("Windows has its own rules for paths")
    done = subprocess.run(
        command(place),
        env=environment(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    output = done.stderr.decode()
    assert "Traceback" not in output
    assert "WARNING" not in output, output
    assert not ESCAPE.search(done.stdout), "control characters in a pipe"
    assert (place / "my run" / "ckpt" / "latest").read_text() == "step-00000004\n"
    assert (place / "my run" / "loss-plot.png").stat().st_size > 1000
    what = request.node.callspec.id.replace(TOGETHER[0], ", ".join(PLACES))
    measured(
        "C3",
        f"path with {what}; read-only HOME, LANG=C, no terminal: trained and generated",
        "0 failures",
    )


def in_terminal(words, env, columns, rows):
    """The output of a process on a terminal of a size, and its exit code."""
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal, which Windows does not have")
    import fcntl
    import struct
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, env)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    output = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's error when the other end of a terminal is closed
            break
        if not part:
            break
        output += part
    os.close(terminal)
    return output, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("place", ["run"], indirect=True)
@pytest.mark.parametrize("color", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_c3_commands_fit_a_terminal_of_80_by_24(place, color, measured):
    env = environment(
        place,
        TERM="xterm-256color",
        LC_ALL="C.UTF-8",
        HOME=str(place),
        **({} if color else {"NO_COLOR": "1"}),
    )
    output, code = in_terminal(command(place), env, 80, 24)
    assert code == 0, output.decode(errors="replace")
    colored = [found for found in COLOR.findall(output) if re.search(rb"[34]\d|[34]8;|9\d", found)]
    assert bool(colored) == color
    bars = [
        line
        for line in re.split(rb"[\r\n]+", ESCAPE.sub(b"", output))
        if b"step " in line and b"/4" in line and b"|" not in line
    ]
    assert bars, "no progress bar was seen"
    assert max(len(line.decode()) for line in bars) <= 80
    measured(
        "C3",
        f"a terminal of 80 x 24 {'with' if color else 'without'} colors: trained and generated, no"
        " bar wider than 80",
        "0 failures",
    )
