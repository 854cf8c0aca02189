"""Run directories as the command line sees them: found, listed, named; read from their small files, so no torch is needed.

Proof: tests/cli/test_folders.py.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llm_scratch.config import RunConfig, learned, load_config, to_dict
from llm_scratch.errors import CHECKPOINT, DATA, RESOURCES, UserError

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """A run directory. `step` of `steps` optimizer steps are in its last checkpoint; `scores` is its last look at held-out text."""

    path: Path
    config: RunConfig
    step: int
    steps: int
    best: float
    scores: dict[str, float]
    changed: float
    """seconds since 1970"""
    text: dict[str, Any] = field(default_factory=dict)
    """which text it was trained on, as its last checkpoint says (`data.corpus.TextFingerprint`)"""
    bits: int = 32
    """of a weight: 8 or 4 in a quantized model, which cannot be trained"""
    origin: str = ""
    """what a quantized or imported model was made from"""

    @property
    def preset(self) -> str:
        """What the run was made from, as its folder's name says: "quickstart" of "2026-07-01-quickstart-2"."""
        return re.sub(r"^\d{4}-\d\d-\d\d-|(?<=.)-\d+$", "", self.path.name)

    @property
    def description(self) -> str:
        """What a run is that was not trained here: "gpt2 quantized to 8 bits", "imported from model.pth"; "" for any other."""
        if self.bits != 32:
            return f"{self.origin or 'a model'} quantized to {self.bits} bits"
        return f"imported from {self.origin}" if self.origin and not self.step else ""

    def check_trainable(self) -> None:
        """Refuse a quantized model where one is to be trained.

        Raises:
            UserError: it is one (exit code 4).
        """
        if self.bits != 32:
            instead = self.origin or "the run that it was made from"
            raise UserError(f"{self.path} is {self.description} and cannot be trained; train {instead}, then quantize it", CHECKPOINT)

    def check_has_curve(self) -> None:
        """Refuse a run without metrics, where its curve is to be read.

        Raises:
            UserError: it is quantized, or was not trained yet (exit code 3); says what to do.
        """
        if (self.path / "metrics.jsonl").is_file():
            return
        if self.bits != 32:
            look = f"look at {self.origin}" if self.origin else "look at the run that it was made from"
            raise UserError(f"{self.path} is {self.description} and has no training curve; {look}", DATA)
        what = f"{self.description} and not trained here yet" if self.description else "not trained yet"
        how = f"llm-scratch train --resume {self.path}" if any(self.path.glob("ckpt/step-*")) else "the same train command begins it"
        raise UserError(f"{self.path} is {what}, so it has no training curve; train it: {how}", DATA)

    @property
    def finished(self) -> bool:
        """Whether all its steps are done."""
        return 0 < self.steps <= self.step


def read_run(path: Path) -> RunFolder | None:
    """The run in a folder; None if it is none, or its config.yaml is not readable."""
    try:
        config = load_config(path / "config.yaml")
    except UserError:
        return None
    state = _state(path)
    changed = max((p.stat().st_mtime for p in (path / "metrics.jsonl", path / "config.yaml") if p.is_file()), default=0.0)
    steps = state.get("steps", config.train.steps if config.train.epochs is None else 0)
    return RunFolder(
        path,
        config,
        state.get("step", 0),
        steps,
        state.get("best", float("inf")),
        state.get("last_eval", {}),
        changed,
        text=state.get("text") or {},
        bits=config.model.bits,
        origin=state.get("made_from", ""),
    )


def with_order_of(old: RunConfig, new: RunConfig) -> RunConfig:
    """The new settings with the order of rows that a run under way found possible for its text (see `data.fit`).

    A run that was to have one document a row, and whose text is one document, has windows side by side.
    """
    if old.data.order == "shuffled" and new.data.order == "documents":
        return replace(new, data=replace(new.data, order="shuffled"))
    return new


def same_settings(old: RunConfig, new: RunConfig) -> bool:
    """Whether settings are those of a run that is there, as far as is known before its text is read."""
    return learned(to_dict(old)) == learned(to_dict(with_order_of(old, new)))


def _state(path: Path) -> dict[str, Any]:
    """The counters of a run's last checkpoint; nothing if there is none."""
    try:
        name = (path / "ckpt" / "latest").read_text(encoding="utf-8").strip()
        state = json.loads((path / "ckpt" / name / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def find_runs(root: Path = RUNS) -> list[RunFolder]:
    """The runs in a folder, the newest last."""
    found = [run for path in sorted(root.iterdir()) if path.is_dir() and (run := read_run(path))] if root.is_dir() else []
    return sorted(found, key=lambda run: run.changed)


def resolve(name: str) -> Path:
    """The path of what a user calls a run: a path, a folder in `runs`, a preset (its newest run), or a name that `load` takes.

    Raises:
        UserError: no such run (code 4).
    """
    from llm_scratch.interop.openai_files import GPT2

    if Path(name).exists() or "/" in name:  # "hf:org/name" too
        return Path(name)
    runs = find_runs()
    match = [run.path for run in runs if run.path.name == name] or [run.path for run in runs if run.preset == name]
    if match:
        return match[-1]
    if name in GPT2:
        return Path(name)
    others = f"{', '.join(GPT2)} or hf:org/name"
    raise UserError(f"no run {name!r} here or in {RUNS}/; `llm-scratch runs list` shows what there is; or {others}", CHECKPOINT)


def check_can_write(path: Path, option: str = "--out") -> None:
    """Refuse a file or folder that cannot be made, before the work whose result it is to hold; tried with a nameless file.

    Raises:
        UserError: names the folder that cannot be written (code 6).
    """
    there = next(parent for parent in [*([path] if path.is_dir() else []), *path.absolute().parents] if os.path.exists(parent))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as e:
        raise UserError(f"{there} cannot be written ({e.strerror}); choose another {option}", RESOURCES) from e


def folder_for(config: RunConfig, name: str, today: str, fresh: bool) -> tuple[Path, str]:
    """Where a run without `--out` goes, and why: its own unfinished run if there is one, else a new folder for today."""
    if not fresh:
        for run in reversed(find_runs()):
            if run.preset == name and not run.finished and same_settings(run.config, config):
                return run.path, f"goes on in {run.path}, stopped at step {run.step}; --fresh starts anew" if run.step else f"{run.path}"
    folder, number = RUNS / f"{today}-{name}", 1
    while folder.exists():
        number += 1
        folder = RUNS / f"{today}-{name}-{number}"
    return folder, f"{folder}"
