"""Read a run as data: settings, metrics, evaluations, samples and checkpoints; imports no torch.

`open_run` is the one reader of a run directory:
commands, plots, diagnosis, report and your own scripts use it.
Tests: tests/test_run_directory.py, tests/cli/test_folders.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_scratch.config import RunConfig, load_config
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.formatting import shell_command
from llm_scratch.storage.checkpoint_folders import list_checkpoints, resolve_pointer

SAMPLE_HEADING = re.compile(r"^## Step (\d+), ([\d,]+) tokens$", re.M)


@dataclass(frozen=True)
class Sample:
    """A text that the model generated during training, after `tokens` tokens."""

    step: int
    tokens: int
    text: str


@dataclass(frozen=True)
class RunInfo:
    """A run directory as data, from `open_run`.

    Metrics and samples are read when they are first used.
    """

    path: Path
    """the run directory"""
    config: RunConfig
    """the settings"""
    step: int
    """the step of the last checkpoint; 0 without one"""
    steps: int
    """steps of the whole run; 0 while it is unknown how many steps its epochs have"""
    scores: dict[str, float]
    """the last evaluation before the last checkpoint; {} without one"""
    changed: float
    """time of the last change, in seconds since 1970"""
    text: dict[str, Any] = field(default_factory=dict)
    """the training text according to its last checkpoint (`data.corpus.TextFingerprint`)"""
    bits: int = 32
    """bits per weight: 8 or 4 in a quantized model, which cannot be trained"""
    origin: str = ""
    """the source of a quantized or imported model"""

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl, oldest first: `step`, and measurements; [] without a file.

        Losses are in nats per token; docs/watching.md lists the keys.
        """
        return list(iter_metrics(self.path / "metrics.jsonl"))

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The rows with a validation loss.

        They have `step`, `tokens`, `train_loss`, `val_loss` and, for text, `val_bits_per_byte`.
        """
        return [row for row in self.metrics if isinstance(row.get("val_loss"), (int, float))]

    @property
    def best(self) -> dict[str, Any]:
        """The evaluation with the lowest validation loss; {} if there is none."""
        return min(self.evaluations, key=lambda row: row["val_loss"], default={})

    @property
    def final(self) -> dict[str, Any]:
        """The last evaluation; {} if there is none."""
        return self.evaluations[-1] if self.evaluations else {}

    @cached_property
    def samples(self) -> list[Sample]:
        """The texts of samples.md, oldest first; [] without the file.

        A line inside a sample that looks like a heading counts as one only
        if its step is later than the previous one.
        """
        try:
            text = (self.path / "samples.md").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        headings: list[re.Match[str]] = []
        for heading in SAMPLE_HEADING.finditer(text):
            if not headings or int(heading[1]) > int(headings[-1][1]):
                headings.append(heading)
        starts = [*(heading.start() for heading in headings), len(text)]
        return [
            Sample(
                int(heading[1]), int(heading[2].replace(",", "")), text[heading.end() : end].strip()
            )
            for heading, end in zip(headings, starts[1:], strict=True)
        ]

    @property
    def checkpoints(self) -> list[Path]:
        """The folders of its checkpoints, newest first; `llm_scratch.load` accepts each."""
        return list_checkpoints(self.path)

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and machine of the run (env.json); {} if it is missing or damaged."""
        return _read_json(self.path / "env.json")

    @property
    def preset(self) -> str:
        """The preset in the folder's name: "quickstart" of "2026-07-01-quickstart-2"."""
        return re.sub(r"^\d{4}-\d\d-\d\d-|(?<=.)-\d+$", "", self.path.name)

    @property
    def description(self) -> str:
        """How a model that was not trained here was made: "gpt2 quantized to 8 bits"; else ""."""
        if self.bits != 32:
            return f"{self.origin or 'a model'} quantized to {self.bits} bits"
        return f"imported from {self.origin}" if self.origin and not self.step else ""

    def check_trainable(self) -> None:
        """Check that the model is not quantized.

        Raises:
            UserError: it is (exit code 4).
        """
        if self.bits != 32:
            instead = self.origin or "the run that it was made from"
            raise UserError(
                f"{self.path} is {self.description} and cannot be trained;"
                f" train {instead}, then quantize it",
                CHECKPOINT,
            )

    @property
    def has_curve(self) -> bool:
        """Whether the run has recorded metrics."""
        return (self.path / "metrics.jsonl").is_file()

    @property
    def origin_with_curve(self) -> Path | None:
        """The run that a quantized model was made from, if it exists and has metrics."""
        origin = Path(self.origin)
        return origin if self.origin and (origin / "metrics.jsonl").is_file() else None

    @property
    def reason_without_curve(self) -> str:
        """Why a model that was not trained here has no training curve; "" for any other run."""
        if self.has_curve or not self.description:
            return ""
        if self.bits != 32:
            return (
                f"{self.path} is {self.description};"
                " a quantized model is not trained, so it has no training curve"
            )
        return (
            f"{self.path} is {self.description} and not trained here yet,"
            " so it has no training curve"
        )

    def check_has_curve(self, *command: str) -> None:
        """Check that the run has metrics.

        Args:
            command: the words of the command that needs them, such as "plot" or "runs", "diagnose";
                suggested for the run that a quantized model was made from.
        Raises:
            UserError: it has none (exit code 3); states the reason, and what to do if possible.
        """
        if self.has_curve:
            return
        if reason := self.reason_without_curve:
            origin = self.origin_with_curve
            instead = f"; use: {shell_command(*command, origin)}" if origin else ""
            raise UserError(f"{reason}{instead}", DATA)
        has_checkpoint = bool(self.checkpoints)
        resume = f"train it: {shell_command('train', '--resume', self.path)}"
        advice = resume if has_checkpoint else "run the same train command again"
        raise UserError(
            f"{self.path} is not trained yet, so it has no training curve; {advice}", DATA
        )

    @property
    def finished(self) -> bool:
        """Whether all its steps are done."""
        return 0 < self.steps <= self.step


def open_run(path: str | Path) -> RunInfo:
    """Open a run directory to read its settings, metrics, samples and checkpoints.

    Args:
        path: the folder, such as `runs/quickstart`.
    Raises:
        UserError: `path` is not a run directory (exit code 4), or its config.yaml is invalid.

    Example:
        run = open_run("runs/quickstart")
        print(run.config.train.lr, run.best["step"], run.final["val_loss"])
        losses = [(row["step"], row["loss"]) for row in run.metrics if "loss" in row]
    """
    path = Path(path)
    if not (path / "config.yaml").is_file():
        raise UserError(
            f"{path}: not a run directory (no config.yaml);"
            " list the runs with `llm-scratch runs list`",
            CHECKPOINT,
        )
    config = load_config(path / "config.yaml")
    state = _state(path)
    changed = max(
        p.stat().st_mtime for p in (path / "metrics.jsonl", path / "config.yaml") if p.is_file()
    )
    steps = state.get("steps", config.train.steps if config.train.epochs is None else 0)
    return RunInfo(
        path,
        config,
        state.get("step", 0),
        steps,
        state.get("last_eval", {}),
        changed,
        text=state.get("text") or {},
        bits=state.get("quantized", 32),
        origin=state.get("made_from", ""),
    )


def find_run(path: Path) -> RunInfo | None:
    """The run in a folder; None if there is none, or its config.yaml is invalid."""
    try:
        return open_run(path)
    except UserError:
        return None


def run_of(path: Path) -> RunInfo | None:
    """The run in a folder, or that a checkpoint belongs to; None for another model."""
    return find_run(path) or find_run(path.resolve().parent.parent)


def iter_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a metrics.jsonl, oldest first; none without the file.

    A line that is not a row is skipped: the last one may be half-written,
    by a run under way or when the machine stopped.
    """
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            yield row


def _state(path: Path) -> dict[str, Any]:
    """The counters of a run's last checkpoint; {} if there is none."""
    name = resolve_pointer(path, "latest")
    return _read_json(path / "ckpt" / name / "state.json") if name else {}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
