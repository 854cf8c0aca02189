"""Smoke test of an installed llm-scratch: import every module, then run the main commands.

Needs nothing but the package and its dependencies, so it shows whether they work together on this
Python, this torch and this processor. A resumed run must end with the weights of one that was not
interrupted, bit by bit. `make test-versions` and `make test-arm64` run it.

    python tools/smoke_test.py        # one line per check; exit code 1 if one fails

Tests: tests/tools/test_smoke_test.py.
"""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

TRAIN = """train quickstart --data.source stories:200
    --model.vocab-size 300 --model.context-length 64 --model.emb-dim 64 --model.n-heads 2
    --model.n-layers 1 --train.steps 20 --train.batch-size 4 --train.warmup-steps 2
    --train.eval-every 10 --train.eval-batches 2 --train.save-every 10 --train.sample-every 20"""
COMMANDS = {
    "doctor": "doctor",
    "train": f"{TRAIN} --out whole",
    "resume": f"{TRAIN} --resume whole/ckpt/step-00000010 --out resumed",
    "nanochat": f"{TRAIN} --model.architecture nanochat --out modern",
    "generate": "generate whole Anna --max-tokens 20 --seed 1",
    "generate-bfloat16": "generate whole Anna --max-tokens 20 --seed 1 --dtype bfloat16",
    "evaluate": "evaluate whole",
    "quantize-8": "quantize whole --bits 8 --out int8",
    "generate-8": "generate int8 Anna --max-tokens 20 --seed 1",
    "quantize-4": "quantize whole --bits 4 --out int4",
    "generate-4": "generate int4 Anna --max-tokens 20 --seed 1",
    "export": "export hf whole exported",
    "plot": "plot whole --out loss.png",
}
TIMEOUT_SECONDS = 1800  # an emulated processor is slow


def import_all() -> str | None:
    """Import every module of the package: the first error, or None.

    A module that needs the packages of an extra may miss them.
    """
    import llm_scratch
    from llm_scratch.extras import EXTRAS

    optional = {name.replace("-", "_") for extra in EXTRAS.values() for name in extra.packages}
    modules = pkgutil.walk_packages(llm_scratch.__path__, "llm_scratch.")
    names = [module.name for module in modules if not module.name.endswith("__main__")]
    for name in [*names, "llm_gpt", "text_data"]:
        try:
            import_module(name)
        except Exception as error:  # any exception of a module is a failure to report
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if (missing or "").partition(".")[0] in optional:
                continue
            return f"{name}: {type(error).__name__}: {error}"
    return None


def run_command(words: str, folder: Path) -> str | None:
    """Run `llm-scratch` with these arguments: its output if it failed, or None."""
    command = [sys.executable, "-m", "llm_scratch", *words.split()]
    env = os.environ | {"LLM_SCRATCH_OFFLINE": "1", "PYTHONFAULTHANDLER": "1"}
    process = subprocess.run(
        command,
        cwd=folder,
        env=env,
        text=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return f"exit code {process.returncode}\n{process.stdout}" if process.returncode else None


def compare_runs(folder: Path) -> str | None:
    """Compare the final weights of the whole and the resumed run: the difference, or None."""
    import torch

    from llm_scratch import load

    if missing := [run for run in ("whole", "resumed") if not (folder / run).is_dir()]:
        return f"nothing to compare: no {' and no '.join(missing)} run was made"
    weights = [load(folder / run)[0].state_dict() for run in ("whole", "resumed")]
    same = all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    return None if same else "the resumed run ended with other weights than the whole one"


def main() -> int:
    """Run every check, one line each; 1 if one failed."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy")]
    python = f"Python {platform.python_version()}"
    print(", ".join([python, *versions, platform.machine()]), flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checks: dict[str, Callable[[], str | None]] = {"import": import_all}
        for command, words in COMMANDS.items():
            checks[command] = partial(run_command, words, folder)
        checks["same weights"] = partial(compare_runs, folder)
        for check, function in checks.items():
            start = time.monotonic()
            try:
                error = function()
            except (
                Exception
            ) as e:  # a timeout or a run that cannot be loaded: continue with the next check
                error = f"{type(e).__name__}: {e}"
            failed += error is not None
            verdict = "FAILED" if error else "ok"
            print(f"{verdict:<6}  {check:<18} {time.monotonic() - start:6.1f} s", flush=True)
            if error:
                print(error, flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
