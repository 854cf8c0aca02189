"""Run directories as the command line sees them: found, listed, named (what one holds: `run_directory.py`).

Proof: tests/cli/test_folders.py.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from llm_scratch.config import RunConfig, resume_relevant, to_dict
from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.run_directory import RunInfo, load_run_info

__all__ = ["RUNS_FOLDER", "RunInfo", "check_can_write", "find_runs", "choose_output_dir", "load_run_info", "resolve_model_path"]

RUNS_FOLDER = Path("runs")


def with_order_of(old: RunConfig, new: RunConfig) -> RunConfig:
    """The new settings with the order of rows that a run under way found possible for its text (see `data.fit`).

    A run that was to have one document a row, and whose text is one document, has windows side by side.
    """
    if old.data.order == "shuffled" and new.data.order == "documents":
        return replace(new, data=replace(new.data, order="shuffled"))
    return new


def same_settings(old: RunConfig, new: RunConfig) -> bool:
    """Whether settings are those of a run that is there, as far as is known before its text is read."""
    return resume_relevant(to_dict(old)) == resume_relevant(to_dict(with_order_of(old, new)))


def find_runs(root: Path = RUNS_FOLDER) -> list[RunInfo]:
    """The runs in a folder, the newest last."""
    found = [run for path in sorted(root.iterdir()) if path.is_dir() and (run := load_run_info(path))] if root.is_dir() else []
    return sorted(found, key=lambda run: run.changed)


def resolve_model_path(name: str) -> Path:
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
    raise UserError(f"no run {name!r} here or in {RUNS_FOLDER}/; `llm-scratch runs list` shows what there is; or {others}", CHECKPOINT)


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


def choose_output_dir(config: RunConfig, name: str, today: str, fresh: bool) -> tuple[Path, str]:
    """Where a run without `--out` goes, and why: its own unfinished run if there is one, else a new folder for today."""
    if not fresh:
        for run in reversed(find_runs()):
            if run.preset == name and not run.finished and same_settings(run.config, config):
                return run.path, f"goes on in {run.path}, stopped at step {run.step}; --fresh starts anew" if run.step else f"{run.path}"
    folder, number = RUNS_FOLDER / f"{today}-{name}", 1
    while folder.exists():
        number += 1
        folder = RUNS_FOLDER / f"{today}-{name}-{number}"
    return folder, f"{folder}"
