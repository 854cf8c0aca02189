"""Test and measure this code on a GPU, in one command of at most 8 minutes.

    python benchmarks/gpu.py --out gpu.jsonl             # all parts, the most useful first
    python benchmarks/gpu.py --only training decoding    # these parts only
    python benchmarks/gpu.py --device cpu --tiny         # try the script itself, without a GPU

It needs torch with CUDA and this checkout: no network, no installation, no other package. A part
whose packages are missing is skipped and names them. Each part prints a table and one line of JSON
when it ends; --out appends that line to a file and flushes it to the disk, so that an interrupted
run keeps its measurements.

Each part runs in its own process: a failed kernel makes the GPU unusable for its process, and a
part that hangs can be killed. A part with less time than its estimate measures fewer rounds, and
one with far less is skipped. Estimates are for a data-center GPU. Exit code 1: a part failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MIN_SHARE = 0.4  # of its estimate that a part needs in order to start
MAX_OVERRUN = 1.5  # times its estimate, after which a part is killed
MAX_CELL_WIDTH = 60  # in a table, in characters; the line of JSON has the whole value
ENGINE = ("numpy", "safetensors", "matplotlib", "yaml")  # what the training loop imports


@dataclass(frozen=True)
class Part:
    """A measurement.

    Attributes:
        function: `module:function`, called with (setup, emit); see gpu_setup.py.
        seconds: estimate of its duration.
        needs: packages that it imports, besides torch.
    """

    name: str
    function: str
    seconds: float
    needs: tuple[str, ...] = ()


PARTS = (  # the most useful first
    Part("machine", "gpu_checks:machine", 15),
    Part("tests", "gpu_checks:tests", 90, ("pytest", *ENGINE)),
    Part("training", "gpu_training:speed", 150, ("numpy",)),
    Part("memory", "gpu_runs:memory", 35, ("numpy",)),
    Part("resume", "gpu_runs:resume", 40, ENGINE),
    Part("decoding", "gpu_decoding:decoding", 85),
    Part("loss", "gpu_runs:loss", 50, ENGINE),
)


@dataclass
class Result:
    """The outcome of a part: done, failed, stopped (killed after its time) or skipped."""

    part: str
    status: str
    why: str = ""
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)


Run = Callable[[Part, float, float], Result]
"""(part, seconds after which it is killed, share of its rounds) -> result"""


def run_parts(
    parts: tuple[Part, ...],
    seconds: float,
    run: Run,
    report: Callable[[Result], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Result]:
    """Run the parts within `seconds`, and report each one when it ends.

    Args:
        clock: returns seconds.
    """
    end = clock() + seconds
    results = []
    for part in parts:
        left = max(0.0, end - clock())
        missing = [name for name in part.needs if find_spec(name) is None]
        if missing:
            why = f"not installed: {', '.join(missing)}"
            result = Result(part.name, "skipped", why)
        elif left < MIN_SHARE * part.seconds:
            why = f"it takes about {part.seconds:.0f} s, {left:.0f} s are left"
            result = Result(part.name, "skipped", why)
        else:
            share = min(1.0, left / part.seconds)
            result = run(part, min(left, MAX_OVERRUN * part.seconds), share)
            if share < 1 and result.status == "done":
                result.why = f"shortened to {share:.0%} of its rounds, {left:.0f} s were left"
        report(result)
        results.append(result)
    return results


def run_process(part: Part, seconds: float, share: float, device: str, tiny: bool) -> Result:
    """Run a part in its own process; kill it and its children after `seconds`."""
    command = [sys.executable, __file__, "--work", part.function, "--device", device]
    command += ["--seconds", f"{seconds:.1f}", "--share", f"{share:.3f}"]
    command += ["--tiny"] if tiny else []
    result = Result(part.name, "done")
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    reader = Thread(target=read_rows, args=(process, result), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        reader.join(5)
        if code and result.status == "done":
            result.status, result.why = "failed", f"its process ended with code {code}"
    except subprocess.TimeoutExpired:
        result.status, result.why = "stopped", f"it took longer than {seconds:.0f} s"
    finally:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the compiler's worker processes too
        process.kill()
        process.wait()
        reader.join(5)
    result.seconds = round(time.monotonic() - start, 1)
    return result


def read_rows(process: subprocess.Popen[str], result: Result) -> None:
    """Collect the rows that a part's process prints, and the error if it ended with one."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            row = json.loads(line)
            if "error" in row:
                result.status, result.why = "failed", row["error"]
            else:
                result.rows.append(row)


def work(args: argparse.Namespace, start: float) -> None:
    """The process of a part: print a line of JSON for each row; library output goes to stderr."""
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(args.seconds) + 5)  # it ends even if its parent was killed
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for deterministic matmuls
    os.environ.setdefault("LLM_SCRATCH_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("MPLBACKEND", "Agg")
    if args.tiny:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # more only slow tiny models down
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        import torch
        from gpu_setup import Setup, reason, rounded

        def emit(row: dict[str, Any]) -> None:
            values = {key: rounded(value) for key, value in row.items()}
            print(json.dumps(values), file=out, flush=True)

        if args.tiny:  # trying the script does not need machine code
            torch.compile = partial(torch.compile, backend="aot_eager")
        module, _, name = args.work.partition(":")
        function = getattr(importlib.import_module(module), name)
        device = torch.device(args.device)
        function(Setup(device, args.tiny, args.seconds, args.share, start), emit)
    except BaseException as error:
        traceback.print_exc()
        print(json.dumps({"error": reason(error)}), file=out, flush=True)
        sys.exit(1)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, with a column for each key, in order of appearance; text is left-aligned."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([formatted(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = []
    is_text = [any(isinstance(row.get(key), str) for row in rows) for key in columns]
    for line in lines:
        cells = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, is_text)
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def formatted(value: Any) -> str:
    """A value in a table."""
    if isinstance(value, float) and abs(value) >= 1000:
        return f"{value:,.0f}"
    text = str(value)
    return text if len(text) <= MAX_CELL_WIDTH else f"{text[: MAX_CELL_WIDTH - 1]}…"


def reporter(out: Path | None, environment: dict[str, Any]) -> Callable[[Result], None]:
    """Make a function that prints a result as a table and a line of JSON, appended to `out` too."""

    def report(result: Result) -> None:
        if result.part == "machine" and result.rows:
            environment["machine"] = result.rows[0]["name"]
        line = json.dumps({"benchmark": "gpu", **vars(result), **environment})
        status = f"{result.status}: {result.why}" if result.why else result.status
        print(f"\n{result.part}: {status} ({result.seconds:.0f} s)")
        if result.rows:
            print(table(result.rows))
        print(line, flush=True)
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())

    return report


def versions(device: str, tiny: bool) -> dict[str, Any]:
    """Commit, device and versions."""
    found: dict[str, Any] = {"commit": None, "device": device, "tiny": tiny}
    with suppress(OSError):  # no git
        words = ["git", "rev-parse", "--short", "HEAD"]
        git = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        found["commit"] = git.stdout.strip() or None
    found["python"] = platform.python_version()
    for name in ("torch", "transformers"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="limit for all parts (default: %(default)s)")
    add("--out", type=Path, help="file to append the lines of JSON to")
    add("--only", nargs="+", choices=names, help="run these parts (default: all)")
    add("--device", default="cuda", help="device (default: %(default)s)")
    add("--tiny", action="store_true", help="tiny sizes, to try the script itself")
    add("--work", help=argparse.SUPPRESS)
    add("--seconds", type=float, help=argparse.SUPPRESS)
    add("--share", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the parts, or be the process of one."""
    start = time.monotonic()
    args = arguments()
    sys.path.insert(0, str(ROOT / "src"))
    if args.work:
        work(args, start)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # then the part's process is killed too
    report = reporter(args.out, versions(args.device, args.tiny))
    if args.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            why = "torch finds no GPU; --device cpu --tiny tries the script itself"
            report(Result("all parts", "skipped", why))
            return
    parts = tuple(part for part in PARTS if not args.only or part.name in args.only)
    left = 60 * args.minutes - (time.monotonic() - start)
    run = partial(run_process, device=args.device, tiny=args.tiny)
    results = run_parts(parts, left, run, report)
    sys.exit(any(result.status in ("failed", "stopped") for result in results))


if __name__ == "__main__":
    main()
