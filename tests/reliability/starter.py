"""Start `llm-scratch` commands from a process that has imported everything.

A command then starts in a tenth of a second instead of two.

Reads a line of JSON from stdin and answers with one on stdout. `{"words": [...], "log": path}`
starts a command whose output goes to `log`, and gives its process id; `{"wait": id}` waits for its
end and gives its exit code. The command is a process of its own, which can be killed like any
other; its process id is not reused before the wait. A command's log has a line for each request of
the lock of its run, and one for each sleep while it waits.
"""

import faulthandler
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from llm_scratch.cli import main
from llm_scratch.training import lock


def note_locks() -> None:
    """Make every command log each request of a lock and each sleep while it waits."""
    take = lock._take

    def noted(*args: Any) -> lock.RunLock:
        print("asks for the lock", flush=True)
        return take(*args)

    def sleep(seconds: float) -> None:
        print(f"sleeps {seconds} s over the lock", flush=True)
        time.sleep(seconds)

    lock._take = noted
    lock.sleep = sleep


def run(words: list[str], log: str) -> int:
    """Run the command in this process with its output in `log`."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(number, stream)
    faulthandler.register(signal.SIGUSR1)  # where it hangs: `Process.stacks`
    os.setsid()
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/
    from preload import import_everything

    import_everything()
    note_locks()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            os._exit(run(**request))
