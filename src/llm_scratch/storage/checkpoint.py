"""Save and load checkpoints: atomic, verified by SHA-256, without executable content.

A checkpoint is a folder `RUN/ckpt/step-00001000/` with weights and optimizer as safetensors,
`state.json`, `config.json`, the tokenizer, and `manifest.json` with the size and SHA-256 of each
file. It is written under a temporary name, flushed to disk and renamed; then the text files
`latest` and `best` are pointed to it, and only then older checkpoints are deleted. Loading verifies
the manifest; a damaged checkpoint moves to `quarantine/` and the next older one is loaded.
Tests: tests/storage/test_checkpoint.py,
tests/reliability/ (a power cut after every operation, damage to every file).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError, describe_error
from llm_scratch.formatting import format_bytes
from llm_scratch.storage import files
from llm_scratch.storage.checkpoint_folders import list_checkpoints, resolve_pointer
from llm_scratch.storage.manifest import (
    FORMAT,
    as_json,
    format_of,
    verify,
    write_hashed,
    write_manifest,
)
from llm_scratch.storage.older_formats import upgrade_settings, upgrade_state, upgrade_tensors
from llm_scratch.storage.safetensors_writer import iter_bytes

MAX_KEPT = 2
"""Number of newest checkpoints to keep, in addition to the best."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint.

    `state` is counters and hashes (JSON);
    `optimizer` has flat names such as `tok_emb.weight/exp_avg`.
    """

    config: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    folder: Path

    @property
    def quantized(self) -> Literal[8, 4] | None:
        """Bits per weight of a quantized model; None for any other."""
        return self.state.get("quantized")


class CorruptCheckpoint(UserError):
    """A checkpoint that was changed since it was written, or is unusable (code 4)."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(f"checkpoint {folder} {problem}", CHECKPOINT)


def save(
    run: Path,
    step: int,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    write_tokenizer: Callable[[Path], None],
    best: bool = False,
    before_save: Callable[[], None] = lambda: None,
) -> Path:
    """Save the checkpoint of `step`, point `latest` (and `best`) to it, then delete older ones.

    `before_save` runs first: it flushes the logs up to this step, so that no checkpoint is newer
    than its logs. The `MAX_KEPT` newest checkpoints are kept.

    Raises:
        UserError: the disk is full or not writable (code 6); existing checkpoints are untouched.
    """
    ckpt = run / "ckpt"
    folder = ckpt / f"step-{step:08d}"
    try:
        before_save()
        _remove_partial(ckpt)
        if not _is_written(folder, config, state):
            # left by an interrupted save, after which the run continued from an older checkpoint
            files.filesystem.remove(folder)
            with files.atomic_folder(folder) as part:
                written = {
                    "model.safetensors": write_hashed(
                        part / "model.safetensors", iter_bytes(weights, {"format": "pt"})
                    ),
                    "optim.safetensors": write_hashed(
                        part / "optim.safetensors", iter_bytes(optimizer)
                    ),
                    "state.json": write_hashed(part / "state.json", [as_json(state)]),
                    "config.json": write_hashed(part / "config.json", [as_json(config)]),
                }
                write_tokenizer(part)
                write_manifest(part, step, written)
        files.atomic_write(ckpt / "latest", folder.name + "\n")
        if best:
            files.atomic_write(ckpt / "best", folder.name + "\n")
    except (OSError, UserError) as e:
        reason = (e.strerror or str(e)) if isinstance(e, OSError) else str(e).partition(";")[0]
        reason = reason.removeprefix(f"cannot write {folder}: ")
        need = sum(t.nbytes for t in (*weights.values(), *optimizer.values()))
        space = f"need {format_bytes(need)}, free {format_bytes(_free(run))}"
        fix = (
            "free disk space or fix permissions,"
            " then run the same command again to resume from the last checkpoint"
        )
        raise UserError(
            f"cannot save the checkpoint {folder}: {reason} ({space}); {fix}", RESOURCES
        ) from e
    _prune(run)
    return folder


def _is_written(folder: Path, config: dict[str, Any], state: dict[str, Any]) -> bool:
    """Whether a folder is the checkpoint of this state, written by a save that then failed."""
    try:
        return all(
            (folder / name).read_bytes() == as_json(content)
            for name, content in (("config.json", config), ("state.json", state))
        )
    except OSError:
        return False


def complete_save(run: Path, saved: Checkpoint) -> None:
    """Complete a save that was interrupted after it had written its checkpoint.

    Points `latest` to the checkpoint, and `best` if its evaluation gave a lower loss than that of
    the checkpoint that `best` names; removes partial files. Call this before training continues
    from it. After a complete save it changes nothing.

    Raises:
        UserError: the disk is full or not writable (code 6).
    """
    ckpt, last_eval = run / "ckpt", saved.state.get("last_eval", {})
    with suppress(OSError):  # of another user; the next save reports it
        _remove_partial(ckpt)
    pointers = ["latest"]
    is_evaluated = last_eval.get("step") == saved.state["step"]
    if is_evaluated and last_eval["val_loss"] == saved.state["best"] < _best_loss(run):
        pointers.append("best")
    for pointer in pointers:
        if resolve_pointer(run, pointer) != saved.folder.name:
            files.atomic_write(ckpt / pointer, f"{saved.folder.name}\n")


def _best_loss(run: Path) -> float:
    """The lowest loss up to the checkpoint that `best` names; infinite without one."""
    try:
        state = run / "ckpt" / (resolve_pointer(run, "best") or "") / "state.json"
        return float(json.loads(state.read_text(encoding="utf-8"))["best"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf


def check_disk_space(run: Path, size: int) -> None:
    """Check before a run that its checkpoints fit on the disk.

    Args:
        run: the run directory, which may not exist yet.
        size: bytes of one checkpoint;
            space is needed for `MAX_KEPT`, the best, and the one being written.
    Raises:
        UserError: too little free space (code 6).
    """
    existing = sum(path.stat().st_size for path in (run / "ckpt").rglob("*") if path.is_file())
    need = (MAX_KEPT + 2) * size - existing
    free = _free(run)
    if free < need:
        raise UserError(
            f"{run}: too little disk space for checkpoints of {format_bytes(size)}: need"
            f" {format_bytes(need)}, free {format_bytes(free)}; free disk space, or choose another"
            " --out",
            RESOURCES,
        )


def _free(path: Path) -> int:
    """Free bytes on the disk of `path`, which may not exist yet."""
    return shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free


def _remove_partial(ckpt: Path) -> None:
    """Remove the partial files of interrupted saves; safe because a run has one writer."""
    for path in (*ckpt.glob("step-*.tmp-*"), *ckpt.glob(".*.part")):
        files.filesystem.remove(path)


def _prune(run: Path) -> None:
    folders = list_checkpoints(run)
    kept = {resolve_pointer(run, "best"), resolve_pointer(run, "latest")}
    kept |= {folder.name for folder in folders[:MAX_KEPT]}
    for folder in folders:
        if folder.name not in kept:
            with suppress(OSError):  # an extra checkpoint is harmless
                files.filesystem.remove(folder)


def read(folder: Path) -> Checkpoint:
    """Read a checkpoint and verify its manifest.

    Raises:
        CorruptCheckpoint: changed since it was written, or a value is not finite (code 4).
        UserError: a newer version of this program wrote it (code 4).
    """
    problem = verify(folder)
    if problem is not None:
        raise CorruptCheckpoint(folder, f"is damaged: {problem}")
    try:
        config, state = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("config.json", "state.json")
        )
        weights, optimizer = (
            load_file(folder / f"{name}.safetensors") for name in ("model", "optim")
        )
        if format_of(folder) < FORMAT:
            config, state = upgrade_settings(config), upgrade_state(state)
            weights, optimizer = upgrade_tensors(weights), upgrade_tensors(optimizer)
    except (ValueError, OSError, SafetensorError) as e:
        # valid hash but malformed content: it was written that way
        raise CorruptCheckpoint(folder, f"is damaged: {describe_error(e)}") from e
    for name, tensor in (*weights.items(), *optimizer.items()):
        if not all_finite(tensor):
            raise CorruptCheckpoint(folder, f"is unusable: {name} has values that are not finite")
    # finite weights can still be too large
    if not math.isfinite(float(state.get("last_eval", {}).get("val_loss", 0.0))):
        raise CorruptCheckpoint(
            folder, "is unusable: its validation loss is not finite, because training diverged"
        )
    return Checkpoint(config, weights, optimizer, state, folder)


def all_finite(tensor: Tensor) -> bool:
    """Whether all values of a tensor are finite.

    The sum is not finite if a value is not, and is 20 times as fast as testing each value.
    """
    # the sum itself may overflow
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def load_latest(
    run: Path, warn: Callable[[str], None], prefer: str | None = None
) -> Checkpoint | None:
    """Load the newest valid checkpoint of a run; None if it has none.

    Starts with the one that `prefer` ("best" or "latest") points to. A damaged checkpoint moves to
    `ckpt/quarantine/`, `warn` is called with the reason, and the next older one is loaded.

    Raises:
        UserError: all checkpoints are damaged,
            or a newer version of this program wrote one (code 4).
    """
    candidates = list_checkpoints(run)
    if prefer is not None:
        named = resolve_pointer(run, prefer)
        candidates.sort(key=lambda folder: folder.name != named)
    quarantine = run / "ckpt" / "quarantine"
    damaged = [p.name for p in quarantine.iterdir()] if quarantine.is_dir() else []
    for folder in candidates:
        try:
            return read(folder)
        except CorruptCheckpoint as e:
            warn(f"{e}; {_quarantine(folder, quarantine)}, trying the next older one")
            damaged.append(folder.name)
    if damaged:
        names = ", ".join(sorted(set(damaged)))
        raise UserError(
            f"all checkpoints of {run} are damaged ({names}, now in {quarantine});"
            " start over with --fresh --force",
            CHECKPOINT,
        )
    return None


def _quarantine(folder: Path, quarantine: Path) -> str:
    """Move a damaged checkpoint aside, if permitted; returns a description of the result."""
    try:
        files.filesystem.make_folder(quarantine)
        files.filesystem.remove(quarantine / folder.name)
        files.filesystem.rename(folder, quarantine / folder.name)
    except OSError as e:
        return f"it cannot be moved to {quarantine} ({e.strerror})"
    return f"moved to {quarantine}"


def set_weights(model: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Load weights into a model, all or none.

    Raises:
        UserError: a tensor is missing, unknown or of another shape;
            the model is unchanged (code 4).
    """
    own = model.state_dict()
    required = {name for name, _ in model.named_parameters()} | {
        name for name, _ in model.named_buffers() if name in own
    }
    new = {name: tensor for name, tensor in weights.items() if not name.endswith("att.mask")}
    for name in sorted(required - set(new)):
        raise UserError(f"{origin}: {name} is missing", CHECKPOINT)
    for name, tensor in new.items():
        if name not in own:
            raise UserError(f"{origin}: unknown tensor {name}", CHECKPOINT)
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{origin}: {name} is {tuple(tensor.shape)},"
                f" the model has {tuple(own[name].shape)}",
                CHECKPOINT,
            )
    model.load_state_dict(new, strict=False)
