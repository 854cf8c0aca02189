"""Real processes that train together over gloo, forked from one with everything imported.

    with Ranks() as ranks:
        first, second = ranks.train(2, config, folder)

Run as a program it is that process: it reads one job per line from stdin,
forks the job's processes, and prints when they have ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from typing import Any

LONGEST = 300  # seconds after which a hanging process is killed


class Ranks:
    """The processes of a test. Those of one call run in parallel; calls run in sequence."""

    def __enter__(self) -> Ranks:
        here = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | here,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def train(
        self,
        size: int,
        config: Any,
        out: Path,
        stop_at: int = 0,
        fault: str = "",
        finetunes: bool = False,
    ) -> list[dict[str, Any]]:
        """Train as `size` processes.

        Args:
            config: the run's settings.
            out: the run directory.
            stop_at: the step after which the first process is sent SIGTERM; 0: none.
            fault: for LLM_SCRATCH_FAULT; see fault_injection.py.
            finetunes: train as own_finetuning.py does, not on a text.
        Returns:
            Of each process: `ids`, the rows that it learned from, by step; `warnings`; `wrapped`,
                whether DDP outlived the group; `error` and `code` if it ended with one.
        """
        from llm_scratch.config import to_dict

        answers = [out.parent / f"{out.name}-{stop_at}-{size}-{rank}.json" for rank in range(size)]
        job = {
            "config": to_dict(config),
            "out": str(out),
            "stop_at": stop_at,
            "fault": fault,
            "finetunes": finetunes,
            "answers": [str(a) for a in answers],
        }
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"
        return [
            json.loads(answer.read_text()) if answer.exists() else {"error": "killed"}
            for answer in answers
        ]


def train(config: Any, out: str, stop_at: int, finetunes: bool) -> dict[str, Any]:
    """Run one process of a job, and return its report."""
    from own_finetuning import finetune

    from llm_scratch.training.callbacks import Callback
    from llm_scratch.training.fault_injection import inject_requested
    from llm_scratch.training.loop import train

    report: dict[str, Any] = {"ids": {}, "warnings": []}

    class Witness(Callback):
        def step(self, run, row):
            if run.step == stop_at:
                signal.raise_signal(signal.SIGTERM)

        def warn(self, message):
            report["warnings"].append(message)

    note_rows(report["ids"])
    try:
        if finetunes:
            run = finetune(out, [Witness()], config=config)
        else:
            run = train(
                config,
                out,
                callbacks=[Witness()],
                corpus=text(config),
                inject_fault=inject_requested,
            )
        report["wrapped"] = run.wrapped_model is not run.model_with_loss
    except Exception as e:
        report |= {"error": str(e), "code": getattr(e, "code", 1), "trace": traceback.format_exc()}
    return report


def note_rows(ids: dict[int, Any]) -> None:
    """Record the batches of the training loader, which is the one with a seed."""
    from llm_scratch.data.loader import TokenLoader

    batch = TokenLoader.batch

    def noted(self: Any, step: int, rank: int = 0, world: int = 1) -> Any:
        rows = batch(self, step, rank, world)
        if self.seed and (world > 1 or "RANK" not in os.environ):  # evaluation takes whole batches
            ids[step] = rows[0].tolist()
        return rows

    TokenLoader.batch = noted  # type: ignore[method-assign]


@lru_cache
def text(config: Any) -> Any:
    """The corpus of a run, prepared once for all processes."""
    from llm_scratch.data.corpus import prepare

    return prepare(config)


def fork(job: dict[str, Any]) -> None:
    """Run a job's processes, and wait for them."""
    from llm_scratch.config import RunConfig, from_dict

    config = from_dict(RunConfig, job["config"])
    if not job["finetunes"]:
        text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank, answer in enumerate(job["answers"]):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        signal.alarm(LONGEST)
        if job["fault"]:
            os.environ["LLM_SCRATCH_FAULT"] = job["fault"]
        if len(job["answers"]) > 1:
            where = {
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": len(job["answers"]),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            os.environ |= {name: str(value) for name, value in where.items()}
        Path(answer).write_text(
            json.dumps(train(config, job["out"], job["stop_at"], job["finetunes"]))
        )
        os._exit(0)
    for pid in children:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    from preload import import_everything

    import_everything()
    os.fsync = lambda number: None  # disks have their own tests
    for line in sys.stdin:
        fork(json.loads(line))
        print("done", flush=True)
