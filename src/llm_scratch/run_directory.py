"""Read the small files of a run directory; imports no torch.

Tests: tests/cli/test_folders.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_scratch.config import RunConfig, load_config
from llm_scratch.errors import CHECKPOINT, DATA, UserError
from llm_scratch.formatting import shell_command


@dataclass(frozen=True)
class RunInfo:
    """A run directory. `step` and `steps` are of its last checkpoint; `scores` is its last evaluation."""

    path: Path
    config: RunConfig
    step: int
    steps: int
    best: float
    scores: dict[str, float]
    changed: float
    """seconds since 1970"""
    text: dict[str, Any] = field(default_factory=dict)
    """the training text according to its last checkpoint (`data.corpus.TextFingerprint`)"""
    bits: int = 32
    """bits per weight: 8 or 4 in a quantized model, which cannot be trained"""
    origin: str = ""
    """the source of a quantized or imported model"""

    @property
    def preset(self) -> str:
        """The preset in the folder's name: "quickstart" of "2026-07-01-quickstart-2"."""
        return re.sub(r"^\d{4}-\d\d-\d\d-|(?<=.)-\d+$", "", self.path.name)

    @property
    def description(self) -> str:
        """How a model was made that was not trained here: "gpt2 quantized to 8 bits", "imported from model.pth"; else ""."""
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
            raise UserError(f"{self.path} is {self.description} and cannot be trained; train {instead}, then quantize it", CHECKPOINT)

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
            return f"{self.path} is {self.description}; a quantized model is not trained, so it has no training curve"
        return f"{self.path} is {self.description} and not trained here yet, so it has no training curve"

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
        has_checkpoint = any(self.path.glob("ckpt/step-*"))
        resume = f"train it: {shell_command('train', '--resume', self.path)}"
        advice = resume if has_checkpoint else "run the same train command again"
        raise UserError(f"{self.path} is not trained yet, so it has no training curve; {advice}", DATA)

    @property
    def finished(self) -> bool:
        """Whether all its steps are done."""
        return 0 < self.steps <= self.step


def load_run_info(path: Path) -> RunInfo | None:
    """Read the run in a folder; None if there is none, or its config.yaml is invalid."""
    try:
        config = load_config(path / "config.yaml")
    except UserError:
        return None
    state = _state(path)
    changed = max((p.stat().st_mtime for p in (path / "metrics.jsonl", path / "config.yaml") if p.is_file()), default=0.0)
    steps = state.get("steps", config.train.steps if config.train.epochs is None else 0)
    return RunInfo(
        path,
        config,
        state.get("step", 0),
        steps,
        state.get("best", float("inf")),
        state.get("last_eval", {}),
        changed,
        text=state.get("text") or {},
        bits=state.get("quantized", 32),
        origin=state.get("made_from", ""),
    )


def _state(path: Path) -> dict[str, Any]:
    """The counters of a run's last checkpoint; {} if there is none."""
    try:
        name = (path / "ckpt" / "latest").read_text(encoding="utf-8").strip()
        state = json.loads((path / "ckpt" / name / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
