"""Train a model: the training loop with evaluation, checkpoints, samples, metrics and resume.

`step.train_step` is the whole idea in a dozen lines; `train` adds what a run needs around it, and
handles steps with a non-finite or outlier loss. One process and many run the same loop
(distributed.py, parallel.py). An interrupted run that is resumed ends with the same bits.
Tests: tests/training/test_loop.py (resumed = uninterrupted, bit for bit).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from llm_scratch.config import RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus
from llm_scratch.data.loader import BatchSource
from llm_scratch.errors import DIVERGED, UserError, describe_error
from llm_scratch.hardware.memory import free_memory
from llm_scratch.storage import checkpoint
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.training.callbacks import Callback, Callbacks
from llm_scratch.training.checkpoint_writer import CheckpointWriter, should_save_async
from llm_scratch.training.distributed import init_distributed
from llm_scratch.training.fault_injection import FaultHook, no_fault
from llm_scratch.training.lock import RunLock, exclusive_writer
from llm_scratch.training.model_with_loss import Loss
from llm_scratch.training.progress_line import ProgressLine
from llm_scratch.training.recovery import ADVICE, Decision, describe_bad_step
from llm_scratch.training.resume import resume
from llm_scratch.training.run_data import PreparedRun, RunData, prepare_for_run, text_data
from llm_scratch.training.run_logger import RunLogger, StepTimer, environment, metrics_until
from llm_scratch.training.samples import choose_prompt, generate_sample
from llm_scratch.training.snapshot import take_snapshot
from llm_scratch.training.state import optimizer_tensors
from llm_scratch.training.stop_signals import StopRequest, stop_signals
from llm_scratch.training.tensorboard import TensorBoardLogger
from llm_scratch.training.trainer import Trainer, build_trainer
from llm_scratch.training.validate import validate


def train(
    config: RunConfig,
    out: str | Path,
    *,
    device: str = "cpu",
    corpus: Corpus | None = None,
    data: BatchSource | None = None,
    val: BatchSource | None = None,
    tokenizer: Tokenizer | None = None,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    prepare: Callable[[Path], PreparedRun] | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = False,
    inject_fault: FaultHook = no_fault,
) -> Trainer:
    """Train a model into the run directory `out`, or resume the run that is there.

    By default the text that `config.data` names is read. Under torchrun every process calls this;
    they share the work, and rank 0 writes.

    Args:
        config: everything that determines the result.
        out: the run directory (its files: checkpoint.py and run_logger.py); that of rank 0 counts.
        device: "cpu", "cuda" or "mps".
        corpus: the text, if it is prepared already.
        data, val: batches to train on and to validate with, instead of a text.
        tokenizer: of `data`, for samples; saved in checkpoints.
        model: the model with its initial weights (default: built from the settings). Parameters
            that require no gradients are not trained and not saved: pass the same ones to resume.
        loss: `loss(model, inputs, targets)`, see `model_with_loss.Loss` (default: cross-entropy).
        prepare: makes settings, text and model when the ranks have joined, from the run directory.
        callbacks: called at the events of the run; see callbacks.py.
        progress: show a line with step, losses and time left, updated in place, also in a notebook.
        inject_fault: for tests; see fault_injection.py.
    Raises:
        UserError: invalid text or settings; a run with other settings in `out`; divergence; full
            disk; stopped by Ctrl-C (after saving).

    Example:
        train(PRESETS["quickstart"]().override(["train.steps=100"]), "runs/short", progress=True)
    """
    with init_distributed(device) as distributed:
        folder = distributed.broadcast(Path(out))
        validate(config, folder, reads_text=corpus is None and data is None)
        if data is not None:
            run_data = RunData.of(data, val, tokenizer)
        else:
            if corpus is None and prepare is not None:
                config, corpus, model = prepare(folder)
            elif corpus is None:
                corpus = prepare_for_run(config, folder)
            run_data = text_data(config, corpus, folder, model)
        run = build_trainer(config, folder, run_data, distributed, model, loss, inject_fault)
        shown = [ProgressLine()] if progress else []
        reports = Callbacks([*callbacks, *shown], distributed.is_main)
        with _writer_lock(run, reports) as lock:
            _run(run, reports, lock)
        release_ddp(run)
    return run


def _writer_lock(run: Trainer, callbacks: Callbacks) -> AbstractContextManager[RunLock | None]:
    """Keep other processes from the run directory; on rank 0, which writes."""
    if run.distributed.is_main:
        return exclusive_writer(run.folder, callbacks.warn)
    return nullcontext()


def _run(run: Trainer, callbacks: Callbacks, lock: RunLock | None) -> None:
    """Resume the run from its latest checkpoint, if it has one, and train it to its last step."""
    latest = _load_latest(run, callbacks)
    resumed = latest is not None
    extension = resume(run, latest, callbacks.warn) if latest is not None else ""
    del latest  # its tensors keep files open, and Windows cannot delete open files
    run.prompt = _sample_prompt(run, callbacks)
    if lock is not None:
        checkpoint.check_disk_space(run.folder, run.checkpoint_bytes)
        _add_loggers(run, callbacks)
    with callbacks.closing(run), stop_signals() as stop:
        callbacks.emit(Callback.started, run, resumed)
        if extension:
            callbacks.note(extension)
        if run.step == 0:
            _evaluate(run, callbacks)
            take_snapshot(run, callbacks.warn)
        flush = partial(callbacks.emit, Callback.flush)
        with CheckpointWriter(
            lock, callbacks.warn, flush, run.best, run.distributed, run.inject_fault
        ) as writer:
            try:
                _train(run, callbacks, writer, stop)
            except UserError as e:
                if e.code == DIVERGED:
                    _log(run, callbacks, {"step": run.step, "tokens": run.tokens, "diverged": 1})
                raise
        callbacks.emit(Callback.finished, run)


def _add_loggers(run: Trainer, callbacks: Callbacks) -> None:
    """Add the log files of the run, before the other callbacks, and time its steps."""
    env = environment(run.device)
    rows = metrics_until(run.folder, run.step)
    run.timer = StepTimer(run.device, env["matrix_rate"] * run.distributed.size, rows)
    board = [TensorBoardLogger(callbacks.warn)] if run.config.system.tensorboard else []
    callbacks.callbacks[:0] = [RunLogger(env, rows, callbacks.warn), *board]


def _train(run: Trainer, callbacks: Callbacks, writer: CheckpointWriter, stop: StopRequest) -> None:
    """Train until the last step, and do after each step what is due.

    Raises:
        UserError: a stop was requested, after saving; divergence; three saves failed in a row.
    """
    cfg = run.config.train
    signum = 0
    run.model.train()
    while run.step < run.steps:
        until = run.step if signum else _next_due(cfg, run.step, run.steps)
        decision = _step(run, callbacks, until)
        if decision is Decision.ROLLBACK:
            _roll_back(run, callbacks, writer)
        signum = signum or run.distributed.all_reduce_max(stop.signum)  # a later signal: next step
        # evaluate, sample and save only with no step in flight
        if run.in_flight or decision is Decision.ROLLBACK:
            continue

        is_last = run.step == run.steps
        ends = is_last or bool(signum)
        evaluate = is_last or run.step % cfg.eval_every == 0
        sample = bool(cfg.sample_every) and (is_last or run.step % cfg.sample_every == 0)
        snapshot = bool(cfg.snapshot_every) and (is_last or run.step % cfg.snapshot_every == 0)
        save = ends or (run.step % cfg.save_every == 0 and not run.recovery.counts.consecutive_bad)

        if evaluate or sample or snapshot or save:
            run.check_finite(dict(run.model.named_parameters()))
            run.best = writer.wait()  # a best loss whose save failed does not count
        if evaluate:
            _evaluate(run, callbacks)
            save = save or run.best < writer.best
        if not run.last_eval_is_finite():
            _report_divergence(run, callbacks, ends)
            save = False
        if sample:
            _sample(run, callbacks)
        if snapshot:
            take_snapshot(run, callbacks.warn)
        if save:
            _save(run, writer, is_last=ends)
        if signum and not is_last:
            raise UserError(
                f"stopped at step {run.step}, saved in {run.folder};"
                " run the same command to resume",
                128 + signum,
            )


def _step(run: Trainer, callbacks: Callbacks, until: int) -> Decision:
    """Complete one step and log it."""
    decision, row = run.train_step(until)
    if decision is Decision.KEEP:
        callbacks.emit(Callback.step, run, row)
        if run.step % run.config.train.log_every == 0 or run.step == run.steps:
            _log(run, callbacks, row)
    else:
        _log(run, callbacks, row)
        callbacks.warn(
            f"step {run.step} was skipped:"
            f" {describe_bad_step(row)} ({run.recovery.counts.skipped} skipped so far)"
        )
    return decision


def _roll_back(run: Trainer, callbacks: Callbacks, writer: CheckpointWriter) -> None:
    """Go back to the last checkpoint after bad steps, and skip past their data."""
    writer.wait()
    callbacks.warn(run.roll_back(_load_latest(run, callbacks)))
    writer.restart(run.best)
    callbacks.emit(Callback.rolled_back, run)
    counts = run.recovery.counts
    rollback = {"rollbacks": counts.rollbacks, "skipped_batches": counts.skipped_batches}
    _log(run, callbacks, {"step": run.step + 1, "tokens": run.tokens, **rollback})


def _evaluate(run: Trainer, callbacks: Callbacks) -> None:
    """Evaluate, and update the lowest validation loss."""
    scores = run.evaluate()
    run.best = min(run.best, scores["val_loss"])
    _log(run, callbacks, scores)
    callbacks.emit(Callback.evaluated, run, scores)


def _report_divergence(run: Trainer, callbacks: Callbacks, ends: bool) -> None:
    """Report a non-finite evaluation, whose weights are never saved.

    If training continues, bad steps cause a rollback.

    Raises:
        UserError: the run ends here (exit code 5).
    """
    problem = f"the loss of the evaluation at step {run.last_eval['step']} is not finite"
    if ends:
        raise UserError(
            f"{problem}: training diverged; the last checkpoint is unchanged. {ADVICE}", DIVERGED
        )
    callbacks.warn(f"{problem}; nothing is saved until it is finite again")


def _sample(run: Trainer, callbacks: Callbacks) -> None:
    """Let the model continue the prompt; a failure is a warning."""
    try:
        model = run.gathered_model()  # a collective call, so sampling is not a callback
        if not run.distributed.is_main:
            return
        text = generate_sample(model, run.data.tokenizer, run.prompt, seed=run.step)
    except MemoryError:
        raise
    except Exception as e:
        problem = describe_error(e, named=True)
        callbacks.warn(
            f"no sample at step {run.step} ({problem});"
            f" `llm-scratch generate {run.folder}` generates one"
        )
        return
    callbacks.emit(Callback.sampled, run, text)


def _sample_prompt(run: Trainer, callbacks: Callbacks) -> str:
    """The prompt of the samples: the configured one, if the tokenizer can encode it.

    Raises:
        UserError: samples are configured, and there is no tokenizer.
    """
    cfg = run.config.train
    if not cfg.sample_every:
        return cfg.prompt
    if run.data.tokenizer is None:
        raise UserError(
            "train.sample_every: samples need a tokenizer;"
            " pass tokenizer=, or set train.sample_every to 0"
        )
    prompt, problem = choose_prompt(
        run.model, run.data.tokenizer, cfg.prompt, run.data.first_tokens
    )
    if problem:
        callbacks.warn(problem)
    return prompt


def _save(run: Trainer, writer: CheckpointWriter, is_last: bool) -> None:
    """Write a checkpoint: in the background, unless it is the last or memory is short."""
    run.check_finite(optimizer_tensors(run.model, run.optimizer))
    in_background = not is_last and should_save_async(
        run.config.system.async_save, run.checkpoint_bytes, free_memory()
    )
    writer.submit(
        run.checkpoint_data(copies=in_background), in_background=in_background, is_last=is_last
    )


def _log(run: Trainer, callbacks: Callbacks, row: dict[str, float]) -> None:
    """Log a row with the time of the run.

    Values that are not finite are left out: JSON cannot express them.
    """
    finite = {name: value for name, value in row.items() if math.isfinite(value)}
    callbacks.emit(Callback.logged, run, finite | {"elapsed": run.timer.elapsed()})


def _next_due(cfg: TrainConfig, step: int, steps: int) -> int:
    """The next step after which an evaluation, a save or a sample is due."""
    intervals = (
        cfg.eval_every,
        cfg.save_every,
        cfg.sample_every or steps,
        cfg.snapshot_every or steps,
    )
    return min(steps, *((step // every + 1) * every for every in intervals))


def _load_latest(run: Trainer, callbacks: Callbacks) -> checkpoint.Checkpoint | None:
    """The newest valid checkpoint, or None. Rank 0 reads it and broadcasts all but the tensors.

    Rank 0 also completes its save, if that was interrupted.
    """
    distributed = run.distributed
    if distributed.is_main:
        latest = checkpoint.load_latest(run.folder, callbacks.warn, prefer="latest")
        if latest is not None:
            checkpoint.complete_save(run.folder, latest)
    else:
        latest = None
    message = latest
    if latest is not None and distributed.size > 1:
        message = replace(latest, weights={}, optimizer={})
    without_tensors = distributed.broadcast(message)
    return latest or without_tensors


def release_ddp(run: Trainer) -> None:
    """Release DDP before the process group is destroyed: freed later, it may wait forever."""
    if run.wrapped_model is not run.model_with_loss:
        run.wrapped_model = run.model_with_loss
        gc.collect()
