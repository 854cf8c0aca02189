"""Resume a run from a checkpoint: check settings and text, restore the state, extend the run.

Tests: tests/cli/test_changed_runs.py.
"""

from __future__ import annotations

from collections.abc import Callable

from llm_scratch.config import RunConfig, from_dict
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage.checkpoint import Checkpoint
from llm_scratch.training.run_data import check_text
from llm_scratch.training.same_run import check_same_run, shorter
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.state import environment_diff, numerics
from llm_scratch.training.trainer import Trainer


def resume(run: Trainer, saved: Checkpoint, warn: Callable[[str], None]) -> str:
    """Restore a new run from a checkpoint.

    Args:
        run: at step 0, with the settings to resume with.
        saved: the checkpoint; ranks other than 0 may lack its tensors.
        warn: called with what may change bits, or makes losses hard to compare.
    Returns:
        How extending the run changes its learning rate; "" if the number of steps is the same.
    Raises:
        UserError: other settings, another text, other frozen weights, or fewer steps than before
            (exit codes 4 and 3).
    """
    old = from_dict(RunConfig, saved.config)
    check_same_run(run.folder, old, run.config)
    check_text(run.folder, saved.state, run.data.text, run.config.data.source)
    check_frozen(run, saved)
    planned = saved.state["steps"]  # 0: imported, not trained yet
    if run.steps < planned:
        raise UserError(shorter(run.folder, f"{planned:,} steps", f"{run.steps:,}"), CHECKPOINT)
    if planned and "row_offsets" not in saved.state and isinstance(run.data.train, TokenLoader):
        run.data.train.use_whole_window_offsets()
    run.restore(saved)
    if changed := environment_diff(saved.state, numerics(run.model_with_loss, run.device)):
        warn(changed)
    if (
        run.config.system.precision == "auto"
        and run.model_with_loss.precision.name != saved.state.get("precision", "float32")
    ):
        warn(run.model_with_loss.precision.reason)
    before, now = old.train.eval_batches, run.config.train.eval_batches
    if before != now and run.last_eval:
        warn(
            f"validation losses now use {now or 'all'} batches;"
            f" until step {run.step:,} they used {before or 'all'}"
        )
    return extend(run, old, planned) if 0 < planned < run.steps else ""


def check_frozen(run: Trainer, saved: Checkpoint) -> None:
    """Check that the frozen weights of a run are those that its trained ones belong to.

    Raises:
        UserError: they are not, or other parameters are frozen (exit code 4).
    """
    if saved.state.get("frozen_sha256", "") != run.frozen_sha256:
        raise UserError(
            f"{run.folder}: the frozen weights of the model are not those that the run was trained"
            " with; pass the model that it started from, with the same parameters frozen",
            CHECKPOINT,
        )


def extend(run: Trainer, old: RunConfig, planned: int) -> str:
    """Extend a restored run beyond the steps it was planned for.

    The optimizer state stays. The learning rate follows the schedule over the new total, so it may
    rise at once; the loss may rise with it, so the spike detector forgets its recent losses.

    Args:
        run: restored from its checkpoint.
        old: the settings of the checkpoint.
        planned: total steps before.
    Returns:
        The learning rate before and after, in words.
    """
    run.recovery.forget_losses()
    cfg = run.config.train
    factor = cfg.rollback_lr**run.recovery.counts.rollbacks
    last = factor * learning_rate(max(0, run.step - 1), planned, old.train)
    return (
        f"extended from {planned:,} to {run.steps:,} steps: the learning rate was {last:.3g} at"
        f" step {run.step:,}, is {run.learning_rate(run.step):.3g} at step {run.step + 1:,}, and"
        f" follows the {cfg.schedule} schedule over the new total"
    )
