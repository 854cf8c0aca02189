"""Take a snapshot of the model during training, for the training film of `llm-scratch play`.

Tests: tests/storage/test_snapshots.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_scratch.errors import UserError
from llm_scratch.storage.snapshots import save_snapshot
from llm_scratch.training.state import unique_state_dict

if TYPE_CHECKING:
    from llm_scratch.training.trainer import Trainer


def take_snapshot(run: Trainer, warn: Callable[[str], None]) -> None:
    """Save a snapshot of this step, if the run takes any; a collective call.

    A snapshot that cannot be written is a warning: the run does not need it.
    """
    if not run.config.train.snapshot_every:
        return
    model = run.gathered_model()
    if not run.distributed.is_main:
        return
    try:
        save_snapshot(run.folder, run.step, unique_state_dict(model))
    except UserError as e:
        warn(str(e))
