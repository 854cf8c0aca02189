"""Check whether a run may be resumed with other settings.

Settings that only observe (evaluation, save, log and sample intervals, the prompt of samples) and
`system` may always change. The number of steps or epochs may grow: the run is then extended, and
its learning rate follows the schedule over the new total. All other settings affect what is
learned and must stay.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from llm_scratch.config import RunConfig, TrainConfig, resume_relevant, to_dict
from llm_scratch.errors import CHECKPOINT, UserError


def check_same_run(folder: Path, old: RunConfig, new: RunConfig) -> None:
    """Check that the run in `folder` may be resumed with the settings `new`.

    Args:
        folder: the run directory, for the error.
        old: the settings that it was trained with.
        new: the settings to resume it with.
    Raises:
        UserError: a setting that affects what is learned differs, or the run would get shorter
            (exit code 4).
    """
    same_length = replace(
        new, train=replace(new.train, steps=old.train.steps, epochs=old.train.epochs)
    )
    if differs := difference(old, same_length):
        raise UserError(
            f"{folder} has a run with other settings ({differs});"
            " choose another --out, or --fresh --force, which deletes it",
            CHECKPOINT,
        )
    check_length(folder, old.train, new.train)


def check_length(folder: Path, old: TrainConfig, new: TrainConfig) -> None:
    """Check that a run does not get shorter, as far as the settings alone show.

    Steps and epochs can only be compared with the text (see `resume.resume`).

    Raises:
        UserError: it would get shorter, or steps are set for a run of epochs (exit code 4).
    """
    if old.epochs is not None and old.epochs == new.epochs and old.steps != new.steps:
        raise UserError(
            f"{folder} is a run of {old.epochs} epochs, so --train.steps has no effect;"
            " use a larger --train.epochs to extend it",
            CHECKPOINT,
        )
    if (old.epochs is None) != (new.epochs is None):
        return
    name = "steps" if old.epochs is None else "epochs"
    before, now = getattr(old, name), getattr(new, name)
    if now < before:
        raise UserError(shorter(folder, f"{before:,} {name}", f"{now:,}"), CHECKPOINT)


def shorter(folder: Path, before: str, now: str) -> str:
    """The error message for a run that would get shorter."""
    return (
        f"{folder} is a run of {before} and cannot be shortened to {now}, as its learning rate was"
        f" planned for all of them; use {before} or more to resume it, or another --out for a"
        " new run"
    )


def difference(old: RunConfig, new: RunConfig) -> str:
    """Return the first setting that differs and affects training, or "".

    An example is "train.lr is 0.02 there, 0.01 here".
    """
    if old.init_from != new.init_from:
        return (
            f"it starts from {old.init_from or 'random weights'} there,"
            f" from {new.init_from or 'random weights'} here"
        )
    if old.parts != new.parts:
        return describe_parts(old.parts, new.parts)
    before, after = resume_relevant(to_dict(old)), resume_relevant(to_dict(new))
    pairs = [
        (f"{part}.{key}", before[part].get(key), after[part][key])
        for part in after
        if isinstance(after[part], dict)
        for key in after[part]
    ]
    return next((f"{name} is {a} there, {b} here" for name, a, b in pairs if a != b), "")


def describe_parts(old: str, new: str) -> str:
    """How the learner's files of two runs differ, in words."""
    name, _, sha256 = new.rpartition(" ")
    if old and new and old.startswith(f"{name} "):
        return f"{name} has changed since, from {old[-64:][:8]} to {sha256[:8]}"
    before, after = (parts.rpartition(" ")[0] or "the package's" for parts in (old, new))
    return f"its parts are {before} there, {after} here"
