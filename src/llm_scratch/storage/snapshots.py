"""Snapshots of a model during training: small copies, to see later when it learned what.

A checkpoint has everything that resuming needs; a snapshot has the weights alone, so that a run can
keep many: matrices in 8 bits, each row with a scale of its own, the rest in float16. The files are
`RUN/snapshots/step-00000050.safetensors`; each can be read without the others.
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
SCALE = ".row_scale"
"""What the name of a matrix's scales ends with."""
MIN_LARGEST = 1e-30
"""Taken for the largest value of a row of zeros."""


def snapshot_path(run: Path, step: int) -> Path:
    """The file of a snapshot."""
    return run / "snapshots" / f"step-{step:08d}.safetensors"


def save_snapshot(run: Path, step: int, weights: Mapping[str, Tensor]) -> Path:
    """Save the weights of a step in 8 bits.

    A weight of a matrix is at most 1/254 of the largest in its row away from the original.

    Raises:
        UserError: the disk is full or not writable (code 6).
    """
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        tensors |= _small(name, weight.detach())
    path = snapshot_path(run, step)
    with files.atomic_file(path) as part:
        files.filesystem.write(part, iter_bytes(tensors))
    return path


def _small(name: str, weight: Tensor) -> dict[str, Tensor]:
    """Return the tensors that store a weight compactly.

    A matrix becomes integers and scales, a vector float16; larger values become float16's largest.
    """
    if not weight.is_floating_point():
        return {name: weight}
    if weight.dim() < 2:
        return {name: weight.clamp(-MAX_FLOAT16, MAX_FLOAT16).half()}
    weight = weight.float()  # [..., N, K]
    scale = weight.abs().amax(-1, keepdim=True).clamp(min=MIN_LARGEST) / 127  # [..., N, 1]
    return {name: (weight / scale).round().to(torch.int8), name + SCALE: scale}


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
        stored = load_file(path)
        scales = {name: stored.pop(name + SCALE) for name in [*stored] if name + SCALE in stored}
        weights = {name: w.float() if w.is_floating_point() else w for name, w in stored.items()}
        return weights | {name: weights[name] * scale for name, scale in scales.items()}
    except FileNotFoundError:
        steps = ", ".join(map(str, list_snapshots(run))) or "none"
        raise UserError(
            f"{run} has no snapshot of step {step}; it has: {steps}", CHECKPOINT
        ) from None
    except (OSError, SafetensorError, RuntimeError) as e:
        raise UserError(
            f"snapshot {path} is damaged: {describe_error(e)}; delete it", CHECKPOINT
        ) from e
