"""Train a model: the training loop with evaluation, checkpoints, samples, metrics and resume.

`step.train_step` is the whole idea in a dozen lines; `train` adds what a run needs around it, and
handles steps with a non-finite or outlier loss. One process and many run the same loop
(distributed.py, parallel.py). An interrupted run that is resumed ends with the same bits.
Tests: tests/training/test_loop.py (resumed = uninterrupted, bit for bit).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from llm_scratch.config import RunConfig, TrainConfig
from llm_scratch.data.corpus import Corpus, start_id
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.hardware.memory import free_memory
from llm_scratch.model import build
from llm_scratch.storage import checkpoint
from llm_scratch.tokenizers.special import end_of_text
from llm_scratch.training.checkpoint_writer import CheckpointWriter, should_save_async
from llm_scratch.training.distributed import Distributed, init_distributed
from llm_scratch.training.lock import exclusive_writer
from llm_scratch.training.model_with_loss import prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import check_batch_size, parallelize
from llm_scratch.training.prompt import choose_prompt
from llm_scratch.training.resume import resume
from llm_scratch.training.run_logger import Callback, NullCallback, NullLogger, RunLogger
from llm_scratch.training.run_text import prepare_for_run
from llm_scratch.training.snapshot import take_snapshot
from llm_scratch.training.spike_detector import MAX_CONSECUTIVE_BAD, SpikeDetector
from llm_scratch.training.state import optimizer_tensors, seed_everything
from llm_scratch.training.stop_signals import StopRequest, stop_signals
from llm_scratch.training.trainer import ADVICE, Trainer
from llm_scratch.training.validate import validate_training

__all__ = ["Trainer", "build_trainer", "train"]


MAX_IN_FLIGHT = {"cuda": 1}
"""Steps that are enqueued on a device before the results of an older one are read."""


def total_steps(cfg: TrainConfig, loader: TokenLoader) -> int:
    """Steps of the whole run: `steps`, or `epochs` times the batches in an epoch."""
    return cfg.steps if cfg.epochs is None else cfg.epochs * len(loader)


def build_trainer(
    config: RunConfig, folder: Path, device: torch.device, corpus: Corpus, team: Distributed | None = None, model: nn.Module | None = None
) -> Trainer:
    """Create a trainer at step 0, with random weights or those of `model`.

    Args:
        config: the settings of the run.
        folder: the run directory.
        device: what to compute on; with several processes, the device of `team`.
        corpus: the training and validation text, encoded.
        team: the processes that train together (default: this one alone).
        model: its weights are the initial ones (default: drawn from the seed).
    Raises:
        UserError: an unknown optimizer, schedule or architecture, with the nearest name; a batch
            that the processes cannot share evenly.
    """
    cfg, T = config.train, config.model.context_length
    team = team or Distributed(device=device)
    check_batch_size(cfg, team)
    validate_training(config)
    seed_everything(cfg.seed)
    model = build(config.model) if model is None else model
    if team.size == 1 or config.system.parallel == "ddp":
        model = model.to(team.device)  # FSDP moves a model block by block
    model.start_id = start_id(config.data, corpus.tokenizer)  # type: ignore[assignment]
    order = config.data.order
    eot = end_of_text(corpus.tokenizer)
    loaders = (
        TokenLoader(corpus.train, T, cfg.batch_size, cfg.seed, order, eot),
        TokenLoader(corpus.val, T, cfg.batch_size, 0, order if order == "documents" else "sequential", eot),
    )
    steps = total_steps(cfg, loaders[0])
    work = steps * cfg.batch_size * T * 6.0 * config.model.n_params
    model_with_loss = prepare_for_training(model, config.system, team.device, work)
    wrapped_model = parallelize(model_with_loss, config.system, team)
    optimizer = OPTIMIZERS[cfg.optimizer](model, cfg)
    guard = SpikeDetector(cfg.spike_sigmas, team.device)
    run = Trainer(
        config,
        folder,
        team,
        corpus.tokenizer,
        model,
        model_with_loss,
        wrapped_model,
        optimizer,
        *loaders,
        corpus.bytes_per_token,
        steps,
        guard,
    )
    run.max_in_flight = MAX_IN_FLIGHT.get(team.device.type, 0)
    run.text = corpus.text
    run.prompt = cfg.prompt
    return run


def train(
    config: RunConfig,
    out: str | Path,
    *,
    device: str = "cpu",
    watcher: Callback | None = None,
    corpus: Corpus | None = None,
    model: nn.Module | None = None,
    progress: bool = False,
) -> Trainer:
    """Train a model into the run directory `out`, or resume the run that is there.

    Under torchrun every process calls this; they share the work, and rank 0 writes.

    Args:
        config: everything that determines the result.
        out: the run directory (its files: checkpoint.py and run_logger.py).
        device: "cpu", "cuda" or "mps".
        watcher: callbacks for steps, evaluations and samples (a progress bar, say).
        progress: show a line with step, losses and time left, updated in place, also in a
            notebook; not together with `watcher`.
        corpus: the text, if it is prepared already.
        model: its weights are the initial ones (see `loading.load_for_training`).
    Raises:
        UserError: invalid text or settings; a run with other settings in `out`; divergence; full
            disk; stopped by Ctrl-C (after saving).
    """
    folder = Path(out)
    with init_distributed(device) as team:
        watcher = _watcher(watcher, progress) if team.is_main else NullCallback()
        run = build_trainer(config, folder, team.device, corpus or prepare_for_run(config, folder), team, model)
        with exclusive_writer(folder, watcher.warn) if team.is_main else nullcontext() as lock:
            latest = _load_latest(run, watcher)
            resumed = latest is not None
            extension = resume(run, latest, watcher) if latest is not None else ""
            if config.train.sample_every:
                run.prompt, problem = choose_prompt(run.model, run.tokenizer, config.train.prompt, run.train_loader.ids)
                if problem:
                    watcher.warn(problem)
            del latest  # its tensors keep files open, and Windows cannot delete open files
            if team.is_main:
                checkpoint.check_disk_space(folder, run.checkpoint_bytes)
            logger = RunLogger(config, folder, run.step, run.device, team.size, watcher.warn) if team.is_main else NullLogger()
            with logger, stop_signals() as stop:
                watcher.started(run, resumed)
                if extension:
                    watcher.note(extension)
                with CheckpointWriter(lock, watcher.warn) if lock else nullcontext() as writer:
                    try:
                        _loop(run, logger, watcher, stop, writer)
                    except UserError as e:
                        if e.code == DIVERGED:
                            logger.log_metrics({"step": run.step, "tokens": run.tokens, "diverged": 1})
                        raise
                watcher.finished(run)
        release_ddp(run)
    return run


def _watcher(watcher: Callback | None, progress: bool) -> Callback:
    """The callback of a run: `watcher`, a progress line, or one that prints warnings.

    Raises:
        UserError: a watcher is given and progress too.
    """
    if not progress:
        return watcher or Callback()
    if watcher is not None:
        raise UserError("progress=True: a watcher is given too; pass one of them (ProgressLine is the watcher of progress=True)")
    from llm_scratch.training.progress_line import ProgressLine

    return ProgressLine()


def release_ddp(run: Trainer) -> None:
    """Release DDP before the process group is destroyed: freed later, it may wait forever."""
    if run.wrapped_model is not run.model_with_loss:
        run.wrapped_model = run.model_with_loss
        gc.collect()


def _load_latest(run: Trainer, watcher: Callback) -> checkpoint.Checkpoint | None:
    """The newest valid checkpoint, or None. Rank 0 reads it and broadcasts all but the tensors."""
    is_main = run.team.is_main
    latest = checkpoint.load_latest(run.folder, watcher.warn, prefer="latest") if is_main else None
    message = latest
    if latest is not None and run.team.size > 1:
        message = replace(latest, weights={}, optimizer={})
    without_tensors = run.team.broadcast(message)
    return latest or without_tensors


def _loop(run: Trainer, logger: RunLogger, watcher: Callback, stop: StopRequest, writer: CheckpointWriter | None) -> None:
    """Train until the last step, and do after each step what is due."""
    cfg = run.config.train
    stopping = 0
    best = run.best
    if run.step == 0:
        _evaluate(run, logger, watcher)
        take_snapshot(run, watcher.warn)
    run.model.train()
    while run.step < run.steps:
        forward = _step(run, logger, watcher, writer, run.step if stopping else _next_due(cfg, run.step, run.steps))
        stopping = stopping or run.team.all_reduce_max(stop.signum)  # a later signal: next step
        if run.in_flight or not forward:  # evaluate and save only with no step in flight
            continue
        last = run.step == run.steps
        evaluate = run.step % cfg.eval_every == 0 or last
        sample = bool(cfg.sample_every) and (run.step % cfg.sample_every == 0 or last)
        save = (run.step % cfg.save_every == 0 and not run.recovery.consecutive_bad) or last or bool(stopping)
        if evaluate or sample or save:
            run.check_finite(dict(run.model.named_parameters()))
            if not run.team.broadcast(writer is None or writer.wait()):  # the previous save failed
                run.best = best
            best = run.best
        better = evaluate and _evaluate(run, logger, watcher)
        if not run.last_eval_is_finite():
            _report_divergence(run, watcher, ends=last or bool(stopping))
            save = False
        if sample:
            gathered = replace(run, model=run.gathered_model())
            logger.log_sample(gathered, watcher)
        if run.step % (cfg.snapshot_every or run.steps) == 0:
            take_snapshot(run, watcher.warn)
        if save or better:
            _save(run, logger, writer, better, last or bool(stopping))
        if stopping and not last:
            raise UserError(
                f"stopped at step {run.step}, saved in {run.folder}; run the same command to resume",
                128 + stopping,
            )


def _step(run: Trainer, logger: RunLogger, watcher: Callback, writer: CheckpointWriter | None, until: int) -> bool:
    """Do one step and log it; False if it was one bad step too many, and the run rolled back."""
    cfg = run.config.train
    began = time.perf_counter()
    tokens_before = run.tokens
    row = run.train_step(until)
    if "skipped" in row:
        logger.log_metrics(row)
        watcher.warn(f"step {run.step} was skipped: {_describe_bad_step(row)} ({run.recovery.skipped} skipped so far)")
        if run.recovery.consecutive_bad >= MAX_CONSECUTIVE_BAD:
            if writer is not None:
                writer.wait()
            watcher.warn(run.rollback(_load_latest(run, watcher)))
            logger.truncate_to(run.step)
            rollback = {"rollbacks": run.recovery.rollbacks, "skipped_batches": run.recovery.skipped_batches}
            logger.log_metrics({"step": run.step + 1, "tokens": run.tokens, **rollback})
            return False
        return True
    row |= logger.timing_fields(run.model, run.tokens - tokens_before, time.perf_counter() - began)
    watcher.step(run, row)
    if run.step % cfg.log_every == 0 or run.step == run.steps:
        logger.log_metrics(row)
    return True


def _report_divergence(run: Trainer, watcher: Callback, ends: bool) -> None:
    """Report a non-finite evaluation. Its weights are never saved; if training continues, bad steps cause a rollback.

    Raises:
        UserError: the run ends here (exit code 5).
    """
    problem = f"the loss of the evaluation at step {run.last_eval['step']} is not finite"
    if ends:
        raise UserError(f"{problem}: training diverged; the last checkpoint is unchanged. {ADVICE}", DIVERGED)
    watcher.warn(f"{problem}; nothing is saved until it is finite again")


def _describe_bad_step(row: dict[str, float]) -> str:
    """Why a step was skipped, in words."""
    if "skipped_loss" not in row:
        return "its loss is not finite"
    if "skipped_grad_norm" not in row:
        return "its gradient is not finite"
    return f"its loss, {row['skipped_loss']:.4g}, is far above the recent ones"


def _next_due(cfg: TrainConfig, step: int, steps: int) -> int:
    """The next step after which an evaluation, a save or a sample is due."""
    intervals = (cfg.eval_every, cfg.save_every, cfg.sample_every or steps, cfg.snapshot_every or steps)
    return min(steps, *((step // every + 1) * every for every in intervals))


def _save(run: Trainer, logger: RunLogger, writer: CheckpointWriter | None, best: bool, last: bool) -> None:
    """Write a checkpoint: in the background, unless it is the `last` or memory has no room for a copy."""
    run.check_finite(optimizer_tensors(run.model, run.optimizer))
    copies = not last and should_save_async(run.config.system.async_save, run.checkpoint_bytes, free_memory())
    save = run.checkpoint_writer(copies, best, logger.flush)
    if last:
        run.team.broadcast(writer is None or writer.write(save, run.step, last))
    elif writer is not None:
        writer.submit(save, run.step, blocking=not copies)


def _evaluate(run: Trainer, logger: RunLogger, watcher: Callback) -> bool:
    """Evaluate; True if the validation loss is the lowest so far."""
    scores = run.evaluate()
    logger.log_metrics(scores)
    better = scores["val_loss"] < run.best
    run.best = min(run.best, scores["val_loss"])
    watcher.evaluated(run, scores)
    return better and run.step > 0
