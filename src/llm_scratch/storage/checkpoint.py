"""Checkpoints that can be trusted: whole or not there, every byte checked by its hash, nothing in them that runs.

A checkpoint is a folder `RUN/ckpt/step-00001000/` with weights and optimizer as safetensors, `state.json`, `config.json`,
the tokenizer, and `manifest.json` with the size and sha256 of each. It is written under another name, flushed to the disk,
and renamed; the text files `latest` and `best` then name it, and only then older ones go. Loading checks the manifest; what
fails moves to `quarantine/` and the next older one is taken.
Tests: tests/storage/test_checkpoint.py, tests/reliability/ (every moment at which the power can go, every file that can be damaged).
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError, describe_error
from llm_scratch.storage import files
from llm_scratch.storage.manifest import as_json, verify, write_hashed, write_manifest
from llm_scratch.storage.safetensors_writer import iter_bytes

MAX_KEPT = 2
"""newest checkpoints that stay, besides the best"""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds. `state` is counters and hashes (JSON); `optimizer` holds flat names such as `tok_emb.weight/exp_avg`."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    folder: Path


class CorruptCheckpoint(UserError):
    """A checkpoint that is not what was written, or cannot be used (code 4)."""

    def __init__(self, folder: Path, wrong: str) -> None:
        super().__init__(f"checkpoint {folder} {wrong}", CHECKPOINT)


def save(
    run: Path,
    step: int,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    write_tokenizer: Callable[[Path], None],
    best: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Path:
    """Write the checkpoint of `step` and name it in `latest` (and `best`); older ones beyond `KEEP` go only afterwards.

    `before` comes first: it puts on the disk for certain what else tells of the steps until then, so that no checkpoint outlives it.

    Raises:
        UserError: the disk is full or not writable (code 6); what was there before is untouched.
    """
    ckpt = run / "ckpt"
    folder = ckpt / f"step-{step:08d}"
    part = ckpt / f"{folder.name}.tmp-{os.getpid()}"
    try:
        before()
        _remove_partial(ckpt)
        if not folder.exists():
            files.filesystem.make_folder(part)
            written = {
                "model.safetensors": write_hashed(part / "model.safetensors", iter_bytes(weights, {"format": "pt"})),
                "optim.safetensors": write_hashed(part / "optim.safetensors", iter_bytes(optimizer)),
                "state.json": write_hashed(part / "state.json", [as_json(state)]),
                "config.json": write_hashed(part / "config.json", [as_json(config)]),
            }
            write_tokenizer(part)
            write_manifest(part, step, written)
            files.filesystem.rename(part, folder)
            files.filesystem.flush(ckpt)
        files.atomic_write(ckpt / "latest", folder.name + "\n")
        if best:
            files.atomic_write(ckpt / "best", folder.name + "\n")
    except (OSError, UserError) as e:
        reason = (getattr(e, "strerror", None) or e) if isinstance(e, OSError) else str(e).partition(";")[0]
        need = sum(t.nbytes for t in (*weights.values(), *optimizer.values()))
        room = f"need {files.format_bytes(need)}, free {files.format_bytes(_free(run))}"
        what_to_do = "make room or see to its permissions, and the same command goes on from the last checkpoint"
        raise UserError(f"cannot save the checkpoint {folder}: {reason} ({room}); {what_to_do}", RESOURCES) from e
    finally:
        with suppress(OSError):
            files.filesystem.remove(part)
    _prune(ckpt)
    return folder


def check_disk_space(run: Path, size: int) -> None:
    """See that the disk has room for a run's checkpoints before any work is done.

    Args:
        run: the run directory, which need not be there yet.
        size: bytes of one checkpoint; besides the `KEEP` newest, the best and the one that is being written take as much.
    Raises:
        UserError: it has not (code 6).
    """
    there = sum(path.stat().st_size for path in (run / "ckpt").rglob("*") if path.is_file())
    need, free = (MAX_KEPT + 2) * size - there, _free(run)
    if free < need:
        raise UserError(
            f"{run} has too little room for checkpoints of {files.format_bytes(size)}: need {files.format_bytes(need)}, "
            f"free {files.format_bytes(free)}; make room, or choose another --out",
            RESOURCES,
        )


def _free(path: Path) -> int:
    """Free bytes on the disk where `path` is or would be."""
    return shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free


def _remove_partial(ckpt: Path) -> None:
    """Remove what saves that were cut off have left; a run has one writer, so nobody is at work there."""
    for path in (*ckpt.glob("step-*.tmp-*"), *ckpt.glob(".*.part")):
        files.filesystem.remove(path)


def _prune(ckpt: Path) -> None:
    kept = {folder.name for folder in list_checkpoints(ckpt.parent)[:MAX_KEPT]} | {
        _resolve_pointer(ckpt, "best"),
        _resolve_pointer(ckpt, "latest"),
    }
    for folder in list_checkpoints(ckpt.parent):
        if folder.name not in kept:
            with suppress(OSError):  # a checkpoint too many is no reason to stop
                files.filesystem.remove(folder)


def _resolve_pointer(ckpt: Path, pointer: str) -> str | None:
    try:
        return (ckpt / pointer).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def list_checkpoints(run: Path) -> list[Path]:
    """A run's checkpoints, newest first."""
    return sorted((p for p in (run / "ckpt").glob("step-*") if p.is_dir() and p.name[5:].isdigit()), reverse=True)


def read(folder: Path) -> Checkpoint:
    """A checkpoint that has been checked against its manifest.

    Raises:
        Damaged: it is not what was written, or holds a number that is not finite (code 4).
        UserError: a newer version of this program wrote it (code 4).
    """
    if (wrong := verify(folder)) is not None:
        raise CorruptCheckpoint(folder, f"is damaged: {wrong}")
    try:
        config, state = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "state.json"))
        weights, optimizer = (load_file(folder / f"{name}.safetensors") for name in ("model", "optim"))
    except (ValueError, OSError, SafetensorError) as e:  # the manifest vouches for it all the same: somebody made it so
        raise CorruptCheckpoint(folder, f"is damaged: {describe_error(e)}") from e
    for name, tensor in (*weights.items(), *optimizer.items()):
        if not all_finite(tensor):
            raise CorruptCheckpoint(folder, f"is of no use: {name} holds numbers that are not finite")
    if not math.isfinite(float(state.get("last_eval", {}).get("val_loss", 0.0))):  # weights can be finite, and too large
        raise CorruptCheckpoint(folder, "is of no use: its validation loss is not finite, as training had diverged")
    return Checkpoint(config, weights, optimizer, state, folder)


def all_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor are finite. Their sum is not where one is not, and is made 20 times as fast as a look at each."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())  # finite ones may have a sum that is too large


def load_latest(run: Path, warn: Callable[[str], None], prefer: str | None = None) -> Checkpoint | None:
    """The newest whole checkpoint of a run (first the one that `prefer`, "best" or "latest", names); None if it never saved one.

    A damaged one moves to `ckpt/quarantine/`, `warn` is told why, and the next older is taken.

    Raises:
        UserError: there are checkpoints and all are damaged, or the newest is of a newer version of this program (code 4).
    """
    candidates = list_checkpoints(run)
    if prefer is not None:
        named = _resolve_pointer(run / "ckpt", prefer)
        candidates.sort(key=lambda folder: folder.name != named)
    quarantine = run / "ckpt" / "quarantine"
    refused = [p.name for p in quarantine.iterdir()] if quarantine.is_dir() else []
    for folder in candidates:
        try:
            return read(folder)
        except CorruptCheckpoint as e:
            warn(f"{e}; {_assign(folder, quarantine)}, taking the next older one")
            refused.append(folder.name)
    if refused:
        names = ", ".join(sorted(set(refused)))
        raise UserError(
            f"all checkpoints of {run} are damaged ({names}); they lie in {quarantine}; start again with --fresh --force", CHECKPOINT
        )
    return None


def _assign(folder: Path, quarantine: Path) -> str:
    """Put a damaged checkpoint aside, where that is allowed; says what became of it."""
    try:
        files.filesystem.make_folder(quarantine)
        files.filesystem.remove(quarantine / folder.name)
        files.filesystem.rename(folder, quarantine / folder.name)
    except OSError as e:
        return f"it cannot be moved to {quarantine} ({e.strerror})"
    return f"moved to {quarantine}"


def set_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Give a model its weights, all of them or none.

    Raises:
        UserError: a tensor is missing, unknown or of another shape; names it (code 4), and the model stays as it was.
    """
    own = model.state_dict()
    wanted = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    given = {name: tensor for name, tensor in weights.items() if not name.endswith("att.mask")}
    for name in sorted(wanted - set(given)):
        raise UserError(f"{origin}: {name} is missing", CHECKPOINT)
    for name, tensor in given.items():
        if name not in own:
            raise UserError(f"{origin}: unknown tensor {name}", CHECKPOINT)
        if tensor.shape != own[name].shape:
            raise UserError(f"{origin}: {name} is {tuple(tensor.shape)}, the model has {tuple(own[name].shape)}", CHECKPOINT)
    model.load_state_dict(given, strict=False)
