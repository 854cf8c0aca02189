"""Run Python scripts in processes that are forked from one with everything imported.

    with Scripts() as scripts:
        done = scripts.run(Path("lessons/step1_text.py"), folder, environment, log)

A script then starts in a tenth of a second. It has no input, and every warning in it is an error.
Run as a program this is the process that forks itself: it reads one job per line from stdin and
answers with the exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

QUIET = ["-W", "error", "-W", "ignore:FigureCanvasAgg is non-interactive"]
"""options of Python: a warning is an error"""
LONGEST = 500  # seconds after which a hanging script is killed; a test ends after 600


class Scripts:
    """A process that runs scripts, one after the other."""

    def __enter__(self) -> Scripts:
        self._process = subprocess.Popen(
            [sys.executable, *QUIET, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"MPLBACKEND": "Agg", "PYTHONIOENCODING": "utf-8"},
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self, script: Path, folder: Path, environment: dict[str, str], log: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in a folder.

        Args:
            script: the file.
            folder: the current folder of the script.
            environment: all its variables.
            log: a new folder for its output.
        """
        log.mkdir()
        out, err = log / "stdout", log / "stderr"
        job = {
            "script": str(script),
            "folder": str(folder),
            "environment": environment,
            "streams": [str(out), str(err)],
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out_text, err_text = (path.read_text(encoding="utf-8") for path in (out, err))
        return subprocess.CompletedProcess([str(script)], code, out_text, err_text)


def run(script: str, folder: str, environment: dict[str, str], streams: list[str]) -> int:
    """Run a script in this process, and return its exit code."""
    signal.alarm(LONGEST)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # else it would read our jobs
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def fork(job: dict[str, Any]) -> int:
    """Run a job in a process of its own, and return its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = run(**job)
    threading._shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    from preload import import_everything

    import_everything()
    for line in sys.stdin:
        print(fork(json.loads(line)), flush=True)
