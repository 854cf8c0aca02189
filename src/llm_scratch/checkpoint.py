"""Checkpoints that can be trusted: whole or not there, every byte checked by its hash, nothing in them that runs.

A checkpoint is a folder `RUN/ckpt/step-00001000/` with weights and optimizer as safetensors, `state.json`, `config.json`,
the tokenizer, and `manifest.json` with the size and sha256 of each. It is written under another name, flushed to the disk,
and renamed; the text files `latest` and `best` then name it. Loading checks the manifest; what fails moves to `quarantine/`
and the next older one is taken.
Proof: tests/test_checkpoint.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.files import write_whole

FORMAT = 1
KEEP = 2  # newest checkpoints that stay, besides the best


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds. `state` is counters and hashes (JSON); `optimizer` holds flat names such as `tok_emb.weight/exp_avg`."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    folder: Path


def save(
    run: Path,
    step: int,
    config: dict[str, Any],
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    write_tokenizer: Callable[[Path], None],
    best: bool = False,
) -> Path:
    """Write the checkpoint of `step` and name it in `latest` (and `best`); older ones beyond `KEEP` go only afterwards.

    Raises:
        UserError: the disk is full or not writable (code 6); what was there before is untouched.
    """
    ckpt = run / "ckpt"
    folder = ckpt / f"step-{step:08d}"
    part = ckpt / f"{folder.name}.tmp-{os.getpid()}"
    try:
        if not folder.exists():
            part.mkdir(parents=True)
            save_file({k: v.contiguous() for k, v in weights.items()}, part / "model.safetensors", {"format": "pt"})
            save_file({k: v.contiguous() for k, v in optimizer.items()}, part / "optim.safetensors")
            (part / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
            (part / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
            write_tokenizer(part)
            _seal(part, step)
            os.rename(part, folder)
            _flush(ckpt)
        write_whole(ckpt / "latest", folder.name + "\n")
        if best:
            write_whole(ckpt / "best", folder.name + "\n")
    except (OSError, SafetensorError) as e:  # the safetensors library has its own error for a disk that is full
        shutil.rmtree(part, ignore_errors=True)
        free = shutil.disk_usage(run).free / 1e6 if run.exists() else 0
        reason = getattr(e, "strerror", None) or e
        raise UserError(f"cannot save the checkpoint {folder}: {reason}; {free:.0f} MB are free there", RESOURCES) from e
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    _forget_old(ckpt)
    return folder


def _seal(folder: Path, step: int) -> None:
    """Flush every file to the disk and write the manifest over them."""
    files = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(folder.iterdir())}
    (folder / "manifest.json").write_text(json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1), encoding="utf-8")
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forget_old(ckpt: Path) -> None:
    kept = {folder.name for folder in folders(ckpt.parent)[:KEEP]} | {_named(ckpt, "best"), _named(ckpt, "latest")}
    for folder in folders(ckpt.parent):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _named(ckpt: Path, pointer: str) -> str | None:
    try:
        return (ckpt / pointer).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def folders(run: Path) -> list[Path]:
    """A run's checkpoints, newest first."""
    return sorted((p for p in (run / "ckpt").glob("step-*") if p.is_dir() and p.name[5:].isdigit()), reverse=True)


def problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, in words, or None: every file there, of the size and sha256 that the manifest says."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return f"format {manifest['format']}, this version reads {FORMAT}"
        if folder.name.startswith("step-") and folder.name != f"step-{manifest['step']:08d}":
            return f"it is the checkpoint of step {manifest['step']}"
        files = {str(name): (said["bytes"], said["sha256"]) for name, said in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        return f"manifest.json cannot be read ({type(e).__name__})"
    if extra := {p.name for p in folder.iterdir()} - set(files) - {"manifest.json"}:
        return f"{sorted(extra)[0]} does not belong to it"
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
        if _sha256(path) != digest:
            return f"{name} is not what was written (its sha256 differs)"
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint that has been checked against its manifest.

    Raises:
        UserError: it is damaged, or holds a number that is not finite (code 4).
    """
    if (wrong := problem(folder)) is not None:
        raise UserError(f"checkpoint {folder} is damaged: {wrong}", CHECKPOINT)
    config, state = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "state.json"))
    weights = load_file(folder / "model.safetensors")
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"checkpoint {folder}: {name} holds numbers that are not finite", CHECKPOINT)
    return Checkpoint(config, weights, load_file(folder / "optim.safetensors"), state, folder)


def newest(run: Path, warn: Callable[[str], None], prefer: str | None = None) -> Checkpoint | None:
    """The newest whole checkpoint of a run (first the one that `prefer`, "best" or "latest", names); None if it never saved one.

    A damaged one moves to `ckpt/quarantine/`, `warn` is told why, and the next older is taken.

    Raises:
        UserError: there are checkpoints and all are damaged (code 4).
    """
    candidates = folders(run)
    if prefer is not None:
        named = _named(run / "ckpt", prefer)
        candidates.sort(key=lambda folder: folder.name != named)
    quarantine = run / "ckpt" / "quarantine"
    refused = [p.name for p in quarantine.iterdir()] if quarantine.is_dir() else []
    for folder in candidates:
        try:
            return read(folder)
        except UserError as e:
            warn(f"{e}; moved to {quarantine}, taking the next older one")
            quarantine.mkdir(exist_ok=True)
            target = quarantine / folder.name
            shutil.rmtree(target, ignore_errors=True)
            os.replace(folder, target)
            refused.append(folder.name)
    if refused:
        names = ", ".join(sorted(set(refused)))
        raise UserError(f"all checkpoints of {run} are damaged ({names}); they lie in {quarantine}; start again with --fresh", CHECKPOINT)
    return None


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
