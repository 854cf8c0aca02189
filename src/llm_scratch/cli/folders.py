"""Find run directories by name, list them, choose one for a new run (see `run_directory.py`).

Tests: tests/cli/test_folders.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from llm_scratch.config import RunConfig, load_config, resume_relevant, to_dict
from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError, did_you_mean
from llm_scratch.run_directory import RunInfo, find_run

RUNS_FOLDER = Path("runs")


def with_order_of(old: RunConfig, new: RunConfig) -> RunConfig:
    """The new settings with the row order of an existing run, changed to fit its text (`data.fit`).

    A text that is a single document cannot have one document a row;
    such a run has shuffled windows instead.
    """
    if old.data.order == "shuffled" and new.data.order == "documents":
        return replace(new, data=replace(new.data, order="shuffled"))
    return new


def same_settings(old: RunConfig, new: RunConfig) -> bool:
    """Whether settings are those of an existing run, as far as is known before its text is read."""
    return resume_relevant(to_dict(old)) == resume_relevant(to_dict(with_order_of(old, new)))


def find_runs(root: Path = RUNS_FOLDER) -> list[RunInfo]:
    """The runs in a folder, the newest last."""
    if root.is_dir():
        runs = [run for path in sorted(root.iterdir()) if path.is_dir() and (run := find_run(path))]
    else:
        runs = []
    return sorted(runs, key=lambda run: run.changed)


def unreadable_runs(root: Path, listed: Collection[Path]) -> Iterator[str]:
    """Why runs in a folder are not among those of `find_runs`, such as an unknown architecture.

    Args:
        root: the folder.
        listed: the runs that were found.
    """
    for file in sorted(root.glob("*/config.yaml")):
        if file.parent not in listed:
            try:
                load_config(file)
            except UserError as e:
                yield f"{file.parent}: {e}"


def resolve_model_path(name: str) -> Path:
    """The path of a model: a path, a run in runs/, a preset's newest run, or a name for `load`.

    Raises:
        UserError: no such run (code 4).
    """
    from llm_scratch.interop.openai_files import GPT2

    if Path(name).exists() or "/" in name:  # "hf:org/name" too
        return Path(name)
    runs = find_runs()
    match = [run.path for run in runs if run.path.name == name] or [
        run.path for run in runs if run.preset == name
    ]
    if match:
        return match[-1]
    if name in GPT2:
        return Path(name)
    others = f"{', '.join(GPT2)} or hf:org/name"
    hint = (
        did_you_mean(name, [*GPT2, *{run.path.name for run in runs}, *{run.preset for run in runs}])
        or f"list the runs with `llm-scratch runs list`, or use {others}"
    )
    raise UserError(f"no run {name!r} here or in {RUNS_FOLDER}/; {hint}", CHECKPOINT)


def check_can_write(path: Path, option: str = "--out") -> None:
    """Check that a file or folder can be created, before the work whose result it will hold.

    A temporary file is created in the nearest existing folder.

    Raises:
        UserError: names the folder that is not writable (code 6).
    """
    existing = next(
        parent
        for parent in [*([path] if path.is_dir() else []), *path.absolute().parents]
        if os.path.exists(parent)
    )
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as e:
        raise UserError(
            f"{existing}: not writable ({e.strerror}); choose another {option}", RESOURCES
        ) from e


def choose_output_dir(config: RunConfig, name: str, today: str, fresh: bool) -> tuple[Path, str]:
    """The folder of a run without `--out`, and a note about it.

    It is that of an unfinished run with these settings, else a new folder for today.
    """
    if not fresh:
        for run in reversed(find_runs()):
            if run.preset == name and not run.finished and same_settings(run.config, config):
                if not run.step:
                    return run.path, f"{run.path}"
                note = f"resuming {run.path} at step {run.step}; --fresh starts a new run"
                return run.path, note
    folder, number = RUNS_FOLDER / f"{today}-{name}", 1
    while folder.exists():
        number += 1
        folder = RUNS_FOLDER / f"{today}-{name}-{number}"
    return folder, f"{folder}"
