"""Resume a run from a checkpoint: check that it is the same run on the same text, and extend it if it has more steps now.

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


def resume(run: Trainer, found: Checkpoint, watcher: Callback) -> str:
    """Bring a new run to the moment of a checkpoint.

    Args:
        run: at step 0, with the settings that it shall have from now on.
        found: the checkpoint; its tensors may be missing on other processes than the first.
        watcher: is warned of what may change bits, or makes losses hard to compare.
    Returns:
        What extending the run does to its learning rate, in words; "" if it has as many steps as before.
    Raises:
        UserError: another run, another text, or fewer steps than before (exit codes 4 and 3).
    """
    old = from_dict(RunConfig, found.config)
    check_same_run(run.folder, old, run.config)
    check_text(run.folder, found.state, run.text, run.config.data.source)
    planned = found.state["steps"]  # 0: imported, not trained yet
    if run.steps < planned:
        raise UserError(shorter(run.folder, f"{planned:,} steps", f"{run.steps:,}"), CHECKPOINT)
    if planned and "row_offsets" not in found.state:
        run.train_loader.use_whole_window_offsets()
    run.restore(found)
    if changed := environment_diff(found.state, numerics(run.trainee, run.device)):
        watcher.warn(changed)
    if run.config.machine.precision == "auto" and run.trainee.precision.name != found.state.get("precision", "float32"):
        watcher.warn(run.trainee.precision.why)
    before, now = old.train.eval_batches, run.config.train.eval_batches
    if before != now and run.last_eval:
        watcher.warn(f"validation losses are now of {now or 'all'} batches, those until step {run.step:,} of {before or 'all'}")
    return extend(run, old, planned) if 0 < planned < run.steps else ""


def extend(run: Trainer, old: RunConfig, planned: int) -> str:
    """Let a restored run have more steps than it was planned for.

    The optimizer's state stays. The learning rate follows the schedule over the new total, so it
    may rise at once; the loss may rise with it, so what the guard has learned about usual losses
    is forgotten.

    Args:
        run: restored from its checkpoint.
        old: the settings of the checkpoint.
        planned: steps that the run had then.
    Returns:
        What the learning rate was and will be, in words.
    """
    run.guard = SpikeDetector(run.config.train.spike_sigmas, run.device)
    cfg = run.config.train
    factor = cfg.rollback_lr**run.trouble.returns
    last = factor * learning_rate(max(0, run.step - 1), planned, old.train)
    following = factor * learning_rate(run.step, run.steps, cfg)
    return (
        f"extended from {planned:,} to {run.steps:,} steps: the learning rate was {last:.3g} at step {run.step:,}, is "
        f"{following:.3g} at step {run.step + 1:,}, and follows the {cfg.schedule} schedule over the new total"
    )
