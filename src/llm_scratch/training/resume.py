"""Resume a run from a checkpoint: check settings and text, restore the state, extend the run if it has more steps.

Tests: tests/cli/test_changed_runs.py.
"""

from __future__ import annotations

from llm_scratch.config import RunConfig, from_dict
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage.checkpoint import Checkpoint
from llm_scratch.training.run_logger import Callback
from llm_scratch.training.run_text import check_text
from llm_scratch.training.same_run import check_same_run, shorter
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.spike_detector import SpikeDetector
from llm_scratch.training.state import environment_diff, numerics
from llm_scratch.training.trainer import Trainer


def resume(run: Trainer, saved: Checkpoint, watcher: Callback) -> str:
    """Restore a new run from a checkpoint.

    Args:
        run: at step 0, with the settings to resume with.
        saved: the checkpoint; ranks other than 0 may lack its tensors.
        watcher: warned of what may change bits, or makes losses hard to compare.
    Returns:
        How extending the run changes its learning rate; "" if the number of steps is the same.
    Raises:
        UserError: other settings, another text, or fewer steps than before (exit codes 4 and 3).
    """
    old = from_dict(RunConfig, saved.config)
    check_same_run(run.folder, old, run.config)
    check_text(run.folder, saved.state, run.text, run.config.data.source)
    planned = saved.state["steps"]  # 0: imported, not trained yet
    if run.steps < planned:
        raise UserError(shorter(run.folder, f"{planned:,} steps", f"{run.steps:,}"), CHECKPOINT)
    if planned and "row_offsets" not in saved.state:
        run.train_loader.use_whole_window_offsets()
    run.restore(saved)
    if changed := environment_diff(saved.state, numerics(run.model_with_loss, run.device)):
        watcher.warn(changed)
    if run.config.system.precision == "auto" and run.model_with_loss.precision.name != saved.state.get("precision", "float32"):
        watcher.warn(run.model_with_loss.precision.reason)
    before, now = old.train.eval_batches, run.config.train.eval_batches
    if before != now and run.last_eval:
        watcher.warn(f"validation losses now use {now or 'all'} batches; until step {run.step:,} they used {before or 'all'}")
    return extend(run, old, planned) if 0 < planned < run.steps else ""


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
    run.guard = SpikeDetector(run.config.train.spike_sigmas, run.device)
    cfg = run.config.train
    factor = cfg.rollback_lr**run.recovery.rollbacks
    last = factor * learning_rate(max(0, run.step - 1), planned, old.train)
    following = factor * learning_rate(run.step, run.steps, cfg)
    return (
        f"extended from {planned:,} to {run.steps:,} steps: the learning rate was {last:.3g} at step {run.step:,}, is "
        f"{following:.3g} at step {run.step + 1:,}, and follows the {cfg.schedule} schedule over the new total"
    )
