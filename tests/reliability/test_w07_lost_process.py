"""W7: when one process of a torchrun dies, all end and the report names it.

The same command resumes the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS, wait_until

from llm_scratch.config import DataConfig, GPTConfig, RunConfig, TrainConfig, dump_config
from llm_scratch.run_directory import iter_metrics
from llm_scratch.storage.checkpoint import load_latest
from llm_scratch.training.run_logger import NONDETERMINISTIC_FIELDS

MAX_STEPS_AFTER = 2
"""One to which the process that died had contributed, and one whose row was not written yet."""
CONFIG = RunConfig(
    GPTConfig(
        vocab_size=60,
        context_length=16,
        emb_dim=16,
        n_heads=2,
        n_layers=1,
        drop_rate=0.1,
        init="gpt2",
    ),
    DataConfig(source="stories:60", tokenizer="chars"),
    TrainConfig(
        steps=150,
        batch_size=4,
        eval_every=75,
        eval_batches=2,
        save_every=25,
        sample_every=0,
        log_every=1,
    ),
)


def steps_done(run: Path) -> int:
    return max((row["step"] for row in iter_metrics(run / "metrics.jsonl")), default=0)


def process_of(parent: int, rank: int) -> int:
    """The process that torchrun started as this rank."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"\0RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return int(pid)
    raise AssertionError(f"torchrun {parent} has no process of rank {rank}")


def learned_rows(run: Path) -> list[dict[str, float]]:
    return [
        {key: value for key, value in row.items() if key not in NONDETERMINISTIC_FIELDS}
        for row in iter_metrics(run / "metrics.jsonl")
    ]


@pytest.mark.skipif(
    not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists(),
    reason="finds torchrun's processes in Linux's /proc",
)
def test_w7_dead_process_is_named_and_the_run_resumes(ranks, tmp_path, measured):
    assert [one for one in ranks.train(2, CONFIG, tmp_path / "whole") if "error" in one] == []
    run, log = tmp_path / "run", tmp_path / "log.txt"
    (tmp_path / "config.yaml").write_text(dump_config(CONFIG))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [
        *torchrun,
        "-m",
        "llm_scratch",
        "train",
        "--config",
        str(tmp_path / "config.yaml"),
        "--device",
        "cpu",
        "--out",
        str(run),
    ]
    with log.open("w") as file:
        job = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        wait_until(lambda: steps_done(run) >= 40 or job.poll() is not None, "step 40")
        assert job.poll() is None, log.read_text()
        os.kill(process_of(job.pid, 1), signal.SIGKILL)
        killed_after_step = steps_done(run)
        code = job.wait(PATIENCE_SECONDS)
    log_text = log.read_text()
    assert code != 0
    assert "rank      : 1 (local_rank: 1)" in log_text, log_text
    assert "exitcode  : -9" in log_text
    assert "step 1/" not in log_text.partition("process 0 of 2")[2], "the other rank stops as well"
    at = steps_done(run)
    assert 40 <= killed_after_step <= at <= killed_after_step + MAX_STEPS_AFTER
    assert at < CONFIG.train.steps
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Done in") == 1, "only rank 0 writes and prints"
    assert learned_rows(run) == learned_rows(tmp_path / "whole")
    a, b = (load_latest(folder, pytest.fail) for folder in (run, tmp_path / "whole"))
    assert all(t.equal(b.weights[name]) for name, t in a.weights.items())
    measured(
        "W7",
        f"all ended after {at - killed_after_step} more steps, rank 1 named; the same command"
        " resumed, final bits equal",
        f"all ranks exit after at most {MAX_STEPS_AFTER} more steps, the rank is named, a restart"
        " resumes",
    )
