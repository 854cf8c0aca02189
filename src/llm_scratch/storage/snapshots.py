"""Snapshots of a model during training: small copies, to see later when it learned what.

A checkpoint has everything that resuming needs; a snapshot has the weights alone, in float16, so
that a run can keep many. They lie in `RUN/snapshots/step-00000050.safetensors`.
Tests: tests/storage/test_snapshots.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.storage import files
from llm_scratch.storage.safetensors_writer import iter_bytes

MAX_FLOAT16 = torch.finfo(torch.float16).max


def snapshot_path(run: Path, step: int) -> Path:
    """The file of a snapshot."""
    return run / "snapshots" / f"step-{step:08d}.safetensors"


def save_snapshot(run: Path, step: int, weights: Mapping[str, Tensor]) -> Path:
    """Save the weights of a step in float16; values beyond its range become the largest it has.

    Raises:
        UserError: the disk is full or not writable (code 6).
    """
    path = snapshot_path(run, step)
    with files.atomic_file(path) as part:
        files.filesystem.write(
            part, iter_bytes({name: _half(weight) for name, weight in weights.items()})
        )
    return path


def _half(weight: Tensor) -> Tensor:
    weight = weight.detach()
    return weight.clamp(-MAX_FLOAT16, MAX_FLOAT16).half() if weight.is_floating_point() else weight


def list_snapshots(run: Path) -> list[int]:
    """The steps of a run's snapshots, in order."""
    names = (
        path.stem.removeprefix("step-") for path in (run / "snapshots").glob("step-*.safetensors")
    )
    return sorted(int(name) for name in names if name.isdigit())


def load_snapshot(run: Path, step: int) -> dict[str, Tensor]:
    """The weights of a snapshot, in float32.

    Raises:
        UserError: there is none of that step, or it is damaged (code 4).
    """
    path = snapshot_path(run, step)
    try:
        return {
            name: w.float() if w.is_floating_point() else w for name, w in load_file(path).items()
        }
    except FileNotFoundError:
        steps = ", ".join(map(str, list_snapshots(run))) or "none"
        raise UserError(
            f"{run} has no snapshot of step {step}; it has: {steps}", CHECKPOINT
        ) from None
    except (OSError, SafetensorError) as e:
        raise UserError(
            f"snapshot {path} is damaged: {describe_error(e)}; delete it", CHECKPOINT
        ) from e
