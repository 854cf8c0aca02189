"""The completion scripts in their shells: Tab completes a line."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from importlib.util import find_spec

import pytest
from effort import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals"),
]
LINES = [
    ("qu", "quantize"),
    ("runs d", "diagnose"),
    ("generate --samp", "--samples"),
    ("train quickstart --train.see", "--train.seed"),
]
STARTS = {
    "fish": (
        ["fish", "--no-config", "--interactive"],
        "function fish_prompt; end; source _llm-scratch; echo READY (math 2 + 2)",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1=; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo READY $((2+2))",
    ),
    "tcsh": (
        ["tcsh", "-f"],
        "set prompt=''; source _llm-scratch; @ four = 2 + 2; echo READY $four",
    ),
}
"""How each shell starts without the user's settings, and reads the script."""


class Terminal:
    """A shell at a pseudo-terminal."""

    def __init__(self, words: list[str]) -> None:
        import pty

        self.pid, self.file = pty.fork()
        if not self.pid:
            os.environ |= {"TERM": "xterm", "COLUMNS": "200"}
            os.execvp(words[0], words)

    def type(self, keys: str, until: str) -> bool:
        """Whether `until` appears after these keys."""
        os.write(self.file, keys.encode())
        shown = b""
        end = time.monotonic() + PATIENCE_SECONDS
        while until.encode() not in shown and time.monotonic() < end:
            if select.select([self.file], [], [], 0.1)[0]:
                shown += os.read(self.file, 65536)
        return until.encode() in shown

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.file)


@pytest.mark.parametrize("shell", STARTS)
def test_tab_completes_commands_and_flags(llm, tmp_path, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    if shell == "tcsh" and find_spec("shtab") is None:
        pytest.skip("the script for tcsh needs the package shtab")
    (tmp_path / "_llm-scratch").write_text(llm("--print-completion", shell).out)
    words, setup = STARTS[shell]
    terminal = Terminal(words)
    try:
        assert terminal.type(f"{setup}\n", "READY 4"), "the shell does not start"
        for typed, expected in LINES:
            # control-U empties the line
            assert terminal.type(f"\x15llm-scratch {typed}\t", expected), typed
    finally:
        terminal.close()
