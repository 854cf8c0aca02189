"""Training: batches in, better weights out; stopped at any moment, it goes on as if it had not been.

`step.train_step` is the whole idea in a dozen lines; `train` puts a run around it: evaluation, checkpoints, samples, metrics, and what
is done about steps that go wrong. It is the same loop on one process and on many (team.py, parallel.py).
Proof: tests/training/test_loop.py (resumed = uninterrupted, bit for bit).
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
from llm_scratch.training.spike_detector import MAX_CONSECUTIVE_BAD, SpikeDetector
from llm_scratch.training.state import optimizer_tensors, seed_everything
from llm_scratch.training.stop_signals import StopRequest, stop_signals
from llm_scratch.training.trainer import ADVICE, Trainer
from llm_scratch.training.validate import validate_training

__all__ = ["Trainer", "build_trainer", "train"]


MAX_IN_FLIGHT = {"cuda": 1}  # steps that a device is given before it is asked for the numbers of an older one


def total_steps(cfg: TrainConfig, loader: TokenLoader) -> int:
    """Steps of the whole run: `epochs` times the batches in a pass, or `steps`."""
    return cfg.steps if cfg.epochs is None else cfg.epochs * len(loader)


def build_trainer(
    config: RunConfig, folder: Path, device: torch.device, corpus: Corpus, team: Distributed | None = None, model: nn.Module | None = None
) -> Trainer:
    """A run at step 0, its weights drawn from the seed unless there is a model to begin with; on `device`, or on that of the team.

    Raises:
        UserError: no such optimizer, schedule or architecture; names the nearest. A batch that cannot be dealt out to the team.
    """
    cfg, T = config.train, config.model.context_length
    team = team or Distributed(device=device)
    check_batch_size(cfg, team)
    validate_training(config)
    seed_everything(cfg.seed)
    model = build(config.model) if model is None else model
    if team.size == 1 or config.machine.parallel == "ddp":
        model = model.to(team.device)  # a model in shares goes there block by block
    model.start_id = start_id(config.data, corpus.tokenizer)  # type: ignore[assignment]
    order, eot = config.data.order, end_of_text(corpus.tokenizer)
    loaders = (
        TokenLoader(corpus.train, T, cfg.batch_size, cfg.seed, order, eot),
        TokenLoader(corpus.val, T, cfg.batch_size, 0, order if order == "documents" else "in order", eot),
    )
    steps = total_steps(cfg, loaders[0])
    trainee = prepare_for_training(model, config.machine, team.device, steps * cfg.batch_size * T * 6.0 * config.model.n_params)
    learner = parallelize(trainee, config.machine, team)
    optimizer = OPTIMIZERS[cfg.optimizer](model, cfg)
    guard = SpikeDetector(cfg.spike_sigmas, team.device)
    run = Trainer(
        config, folder, team, corpus.tokenizer, model, trainee, learner, optimizer, *loaders, corpus.bytes_per_token, steps, guard
    )
    run.max_in_flight = MAX_IN_FLIGHT.get(team.device.type, 0)
    run.text, run.prompt = corpus.text, cfg.prompt
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
    """Train a model into the run directory `out`; if one of the same settings is there, go on where it stopped.

    Started by torchrun, all processes call this alike, and share the work; the first one writes.

    Args:
        config: everything that decides the result.
        out: the run directory (see checkpoint.py and records.py for what lies in it).
        device: "cpu", "cuda", "mps".
        watcher: is told about steps, evaluations and samples (a progress bar, say).
        progress: show a line with step, losses and time left, updated in place, in a notebook too; not with a `watcher`.
        corpus: the text, if it is prepared already.
        model: one of these settings, whose weights to begin with (see `loading.begin_with`).
    Raises:
        UserError: bad text or settings; a run of other settings in `out`; diverged; disk full; stopped by Ctrl-C (after saving).
    """
    folder = Path(out)
    with init_distributed(device) as team:
        watcher = _watcher(watcher, progress) if team.is_main else NullCallback()
        run = build_trainer(config, folder, team.device, corpus or prepare_for_run(config, folder), team, model)
        with exclusive_writer(folder, watcher.warn) if team.is_main else nullcontext() as lock:
            found = _load_latest(run, watcher)
            resumed = found is not None
            extension = resume(run, found, watcher) if found is not None else ""
            if config.train.sample_every:
                run.prompt, problem = choose_prompt(run.model, run.tokenizer, config.train.prompt, run.train_loader.ids)
                if problem:
                    watcher.warn(problem)
            del found  # its tensors keep the files open, and Windows removes no open file
            if team.is_main:
                checkpoint.check_disk_space(folder, run.checkpoint_bytes)
            papers = RunLogger(config, folder, run.step, run.device, team.size, watcher.warn) if team.is_main else NullLogger()
            with papers as records, stop_signals() as stop:
                watcher.started(run, resumed)
                if extension:
                    watcher.note(extension)
                with CheckpointWriter(lock, watcher.warn) if lock else nullcontext() as saves:
                    try:
                        _loop(run, records, watcher, stop, saves)
                    except UserError as e:
                        if e.code == DIVERGED:
                            records.log_metrics({"step": run.step, "tokens": run.tokens, "diverged": 1})
                        raise
                watcher.finished(run)
        release_ddp(run)
    return run


def _watcher(watcher: Callback | None, progress: bool) -> Callback:
    """Who is told how training goes.

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
    """Let go of DDP before the team is dissolved: what closes the connections when it is freed itself may wait for ever."""
    if run.learner is not run.trainee:
        run.learner = run.trainee
        gc.collect()


def _load_latest(run: Trainer, watcher: Callback) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from, if there is one. Process 0 reads it; the others are told all but the tensors."""
    found = checkpoint.load_latest(run.folder, watcher.warn, prefer="latest") if run.team.is_main else None
    told = run.team.broadcast(replace(found, weights={}, optimizer={}) if found and run.team.size > 1 else found)
    return found or told


def _loop(run: Trainer, records: RunLogger, watcher: Callback, stop: StopRequest, saves: CheckpointWriter | None) -> None:
    """Steps until the end; what is due every so many steps is done after the step."""
    cfg, stopping, best = run.config.train, 0, run.best
    if run.step == 0:
        _evaluate(run, records, watcher)
    run.model.train()
    while run.step < run.steps:
        forward = _step(run, records, watcher, saves, run.step if stopping else _next_due(cfg, run.step, run.steps))
        stopping = stopping or run.team.all_reduce_max(stop.signum)  # asked now: a signal during what follows is for the next step
        if run.in_flight or not forward:  # what is due comes after a step that no other follows yet
            continue
        last = run.step == run.steps
        look = run.step % cfg.eval_every == 0 or last
        sample = bool(cfg.sample_every) and (run.step % cfg.sample_every == 0 or last)
        save = (run.step % cfg.save_every == 0 and not run.trouble.streak) or last or bool(stopping)
        if look or sample or save:
            run.check_finite(dict(run.model.named_parameters()))
            if not run.team.broadcast(saves is None or saves.wait()):  # the save before this one failed
                run.best = best
            best = run.best
        better = look and _evaluate(run, records, watcher)
        if not run.last_eval_is_finite():
            _report_divergence(run, watcher, ends=last or bool(stopping))
            save = False
        if sample:
            shown = replace(run, model=run.gathered_model())
            records.log_sample(shown, watcher)
        if save or better:
            _save(run, records, saves, better, last or bool(stopping))
        if stopping and not last:
            raise UserError(f"stopped at step {run.step}, saved in {run.folder}; the same command goes on from there", 128 + stopping)


def _step(run: Trainer, records: RunLogger, watcher: Callback, saves: CheckpointWriter | None, until: int) -> bool:
    """Do one step and say what came of it; False if it was one bad step too many, and the run went back."""
    cfg, began, before = run.config.train, time.perf_counter(), run.tokens
    row = run.train_step(until)
    if "skipped" in row:
        records.log_metrics(row)
        watcher.warn(f"step {run.step} was bad and moved nothing: {_describe_bad_step(row)} ({run.trouble.skipped} so far)")
        if run.trouble.streak >= MAX_CONSECUTIVE_BAD:
            if saves is not None:
                saves.wait()
            watcher.warn(run.rollback(_load_latest(run, watcher)))
            records.truncate_to(run.step)
            records.log_metrics({"step": run.step + 1, "tokens": run.tokens, "returns": run.trouble.returns, "shift": run.trouble.shift})
            return False
        return True
    row |= records.timing_fields(run.model, run.tokens - before, time.perf_counter() - began)
    watcher.step(run, row)
    if run.step % cfg.log_every == 0 or run.step == run.steps:
        records.log_metrics(row)
    return True


def _report_divergence(run: Trainer, watcher: Callback, ends: bool) -> None:
    """Say that the last evaluation was not finite. Its weights are never saved; if the run goes on, bad steps lead it back.

    Raises:
        UserError: the run ends here (exit code 5).
    """
    what = f"the loss of the evaluation at step {run.last_eval['step']} is not finite"
    if ends:
        raise UserError(f"{what}: training diverged; the last checkpoint, if there is one, is as it was. {ADVICE}", DIVERGED)
    watcher.warn(f"{what}; nothing is saved until it is finite again")


def _describe_bad_step(row: dict[str, float]) -> str:
    """What was wrong with a bad step."""
    if "skipped_loss" not in row:
        return "its loss is not finite"
    return (
        "its gradient is not finite" if "skipped_grad_norm" not in row else f"its loss, {row['skipped_loss']:.4g}, is far above the usual"
    )


def _next_due(cfg: TrainConfig, step: int, steps: int) -> int:
    """The next step after which something else than a step is due."""
    return min(steps, *((step // every + 1) * every for every in (cfg.eval_every, cfg.save_every, cfg.sample_every or steps)))


def _save(run: Trainer, records: RunLogger, saves: CheckpointWriter | None, best: bool, last: bool) -> None:
    """Let the process that has `saves` write a checkpoint, in the background if it is not the `last` and memory has room for a copy."""
    run.check_finite(optimizer_tensors(run.model, run.optimizer))
    copies = not last and should_save_async(run.config.machine.background_save, run.checkpoint_bytes, free_memory())
    save = run.checkpoint_writer(copies, best, records.flush)
    if last:
        run.team.broadcast(saves is None or saves.attempt(save, run.step, last))
    elif saves is not None:
        saves.submit(save, run.step, waits=not copies)


def _evaluate(run: Trainer, records: RunLogger, watcher: Callback) -> bool:
    """Evaluate; True when the held-out loss is the lowest so far."""
    scores = run.evaluate()
    records.log_metrics(scores)
    better = scores["val_loss"] < run.best
    run.best = min(run.best, scores["val_loss"])
    watcher.evaluated(run, scores)
    return better and run.step > 0
