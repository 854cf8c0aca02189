"""benchmarks/gpu.py: each part reports rows, none ends the others, and the budget is kept."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

HANGS = 4321  # seconds after which a part would be killed that is known to hang
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = FOLDER / "gpu.py"
BROKEN = """
import os, time

def fails(setup, emit):
    emit({"name": "before", "value": 1.0})
    raise RuntimeError("a kernel\\nfailed")

def dies(setup, emit):
    emit({"name": "before", "value": float("nan")})
    os._exit(7)

def hangs(setup, emit):
    emit({"name": "before", "value": 2.0})
    open(os.environ["HANGS"], "w").close()
    time.sleep(600)

def works(setup, emit):
    print("a library prints this")
    emit({"name": "after", "device": str(setup.device), "rounds": setup.rounds(10)})
"""


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu")


@pytest.fixture
def setup(gpu):
    return importlib.import_module("gpu_setup").Setup(torch.device("cpu"), tiny=True)


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_parts_share_the_time_and_late_ones_are_shortened_or_skipped(gpu):
    """Each stub takes 90 s of a fake clock; the budget is 200 s."""
    clock = SimpleNamespace(now=0.0)
    calls, reported = [], []

    def run(part, seconds, share):
        calls.append((part.name, seconds, round(share, 2)))
        clock.now += 90
        return gpu.Result(part.name, "done")

    estimates = {"a": 60, "b": 100, "c": 40, "d": 50, "e": 5}
    parts = tuple(gpu.Part(name, "no:where", seconds) for name, seconds in estimates.items())
    results = gpu.run_parts(parts, 200, run, reported.append, lambda: clock.now)
    assert calls == [("a", 90, 1.0), ("b", 110, 1.0), ("c", 20, 0.5)]
    assert [result.status for result in results] == ["done", "done", "done", "skipped", "skipped"]
    assert results[2].why == "shortened to 50% of its rounds, 20 s were left"
    assert results[3].why == "it takes about 50 s, 0 s are left"
    assert reported == results


def test_gpu_part_names_missing_packages(gpu):
    part = gpu.Part("a", "no:where", 1, ("json", "no_such_package"))
    (result,) = gpu.run_parts((part,), 100, pytest.fail, lambda result: None)
    assert (result.status, result.why) == ("skipped", "not installed: no_such_package")


def test_gpu_script_continues_after_a_part_that_fails_or_hangs(gpu, tmp_path, monkeypatch, capfd):
    (tmp_path / "broken.py").write_text(BROKEN, encoding="utf-8")
    hanging = tmp_path / "hanging"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HANGS", str(hanging))
    names = ("fails", "dies", "hangs", "works")
    parts = tuple(gpu.Part(name, f"broken:{name}", 100) for name in names)
    out = tmp_path / "out.jsonl"

    class Popen(subprocess.Popen):
        def wait(self, timeout=None):
            """The time is up as soon as the part hangs."""
            if timeout != HANGS:
                return super().wait(timeout)
            while not hanging.exists():
                time.sleep(0.05)
            raise subprocess.TimeoutExpired(self.args, timeout)

    def run(part, seconds, share):
        limit = HANGS if part.name == "hangs" else seconds
        return gpu.run_process(part, limit, share, "cpu", tiny=False)

    monkeypatch.setattr(gpu.subprocess, "Popen", Popen)
    results = gpu.run_parts(parts, 1000, run, gpu.reporter(out, {"commit": "0"}))
    states = [result.status for result in results]
    assert states == ["failed", "failed", "stopped", "done"]
    assert results[0].why == "RuntimeError: a kernel failed"
    assert results[1].why == "its process ended with code 7"
    assert results[2].why == f"it took longer than {HANGS} s"
    rows = [result.rows for result in results]
    assert rows[:3] == [[{"name": "before", "value": value}] for value in (1.0, "nan", 2.0)]
    assert rows[3] == [{"name": "after", "device": "cpu", "rounds": 10}]
    kept = lines(out)
    assert [(line["part"], line["rows"], line["commit"]) for line in kept] == [
        (name, part, "0") for name, part in zip(names, rows, strict=True)
    ]
    printed = capfd.readouterr()
    assert "a library prints this" in printed.err
    shown = [json.loads(line) for line in printed.out.splitlines() if line.startswith("{")]
    assert shown == kept


PARTS = {  # what the rows of each part must have, at least once
    "gpu_checks:machine": ("float32_tflops", "bfloat16_tflops", "read_gb_per_second"),
    "gpu_training:speed": ("tokens_per_second", "mfu", "peak_gb", "speed_ratio", "skipped"),
    "gpu_runs:memory": ("planned_gb", "measured_gb", "off"),
    "gpu_runs:resume": ("tensors", "unequal", "largest_difference"),
    "gpu_decoding:decoding": ("tokens_per_second", "first_token_seconds", "of_bandwidth"),
    "gpu_runs:loss": ("steps", "seconds", "loss", "seconds_to_2.0"),
}


@pytest.mark.parametrize("function", PARTS)
def test_gpu_parts_report_their_rows(setup, function, monkeypatch):
    """Without transformers, whose import takes longer than all the rest; it has a slow test."""
    module, _, name = function.partition(":")
    module = importlib.import_module(module)
    monkeypatch.setattr(module, "is_installed", lambda name: name != "transformers", raising=False)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    rows = []
    getattr(module, name)(setup, rows.append)
    json.dumps(rows)
    assert [row for row in rows if "failed" in row] == []
    assert all(row["name"] for row in rows)
    assert {key for row in rows for key in row} >= set(PARTS[function])
    for row in rows:
        assert row.get("unequal", 0) == 0
        assert row.get("resumed_at", 3) == 3, "half way"
        assert abs(row.get("off", 0.0)) < 0.02, "a plan counts what a step holds"
        assert row.get("mfu", 0.5) > 0


def test_parts_and_their_functions_agree(gpu):
    assert {part.function for part in gpu.PARTS} == {*PARTS, "gpu_checks:tests"}
    assert sum(part.seconds for part in gpu.PARTS) <= 8 * 60, "they fit into eight minutes"


@pytest.mark.parametrize(
    ("value", "reported"),
    [(1234.56, 1235.0), (0.000123456, 0.0001235), (float("nan"), "nan"), (7, 7), (None, None)],
)
def test_values_are_rounded_to_four_digits_and_nan_is_text(gpu, value, reported):
    assert importlib.import_module("gpu_setup").rounded(value) == reported


def test_gpu_table_has_a_column_for_every_key(gpu):
    text = gpu.table([{"name": "a", "x": 1.5}, {"name": "bcd", "y": 12345.6}])
    assert text.splitlines() == ["name    x       y", "a     1.5", "bcd        12,346"]


def test_gpu_table_aligns_text_to_the_left_and_shortens_it(gpu):
    text = gpu.table([{"name": "a", "n": 1, "why": "x" * 300}, {"name": "b", "n": 23, "why": "y"}])
    assert text.splitlines() == ["name   n  why", f"a      1  {'x' * 59}…", "b     23  y"]


def script(*words, **environment):
    """Run the script; returns its exit code, stdout and stderr."""
    env = os.environ | environment
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, env=env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="the script would measure the GPU")
def test_gpu_script_reports_a_missing_gpu():
    code, printed, errors = script()
    assert (code, errors) == (0, "")
    why = "torch finds no GPU; --device cpu --tiny tries the script itself"
    *table, last = printed.split("\n")[:-1]
    assert table == ["", f"all parts: skipped: {why} (0 s)"]
    line = json.loads(last)
    assert (line["benchmark"], line["status"], line["why"]) == ("gpu", "skipped", why)


def test_gpu_script_without_time_skips_every_part(gpu, tmp_path):
    out = tmp_path / "out.jsonl"
    code, _, errors = script("--device", "cpu", "--tiny", "--minutes", "0", "--out", out)
    assert (code, errors) == (0, "")
    assert [line["part"] for line in lines(out)] == [part.name for part in gpu.PARTS]
    assert {line["status"] for line in lines(out)} == {"skipped"}


def test_gpu_script_runs_the_possible_parts_with_torch_and_numpy_only(tmp_path):
    """Simulate a machine without packages: a module that is None cannot be imported."""
    absent = "tyro regex tiktoken safetensors rich yaml matplotlib transformers tokenizers pytest"
    code = f"import sys\nsys.modules |= dict.fromkeys({absent.split()})\n"
    (tmp_path / "sitecustomize.py").write_text(code, encoding="utf-8")
    out = tmp_path / "out.jsonl"
    parts = "tests", "memory", "resume", "decoding"
    words = ["--device", "cpu", "--tiny", "--minutes", "30", "--out", out, "--only", *parts]
    code, printed, errors = script(*words, PYTHONPATH=str(tmp_path))
    assert code == 0, printed + errors
    results = {line["part"]: line for line in lines(out)}
    done = {name for name, line in results.items() if line["status"] == "done"}
    assert done == {"memory", "decoding"}
    assert results["resume"]["why"] == "not installed: safetensors, matplotlib, yaml"
    assert results["tests"]["why"] == "not installed: pytest, safetensors, matplotlib, yaml"
    rows = results["decoding"]["rows"]
    assert {"name": "transformers", "skipped": "not installed: transformers"} in rows


@pytest.mark.slow
def test_gpu_script_runs_on_a_cpu(tmp_path):
    """Run the tests marked `gpu` and the comparison with transformers as well."""
    out = tmp_path / "out.jsonl"
    code, printed, errors = script("--device", "cpu", "--tiny", "--minutes", "30", "--out", out)
    assert code == 0, printed + errors
    results = {line["part"]: line for line in lines(out)}
    assert {line["status"] for line in results.values()} == {"done"}
    (counts,) = results["tests"]["rows"]
    assert counts["passed"] > 30
    assert counts["failed"] == counts["skipped"] == 0
    names = {row["name"] for line in results.values() for row in line["rows"]}
    assert "ours / transformers" in names
    assert "ours, compiled / transformers, compiled" in names
    assert "ours / transformers, bfloat16" in names
