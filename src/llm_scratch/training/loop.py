"""Training: batches in, better weights out; stopped at any moment, it goes on as if it had not been.

`step.train_step` is the whole idea in a dozen lines; `train` puts a run around it: evaluation, checkpoints, samples, metrics.
Proof: tests/training/test_loop.py (resumed = uninterrupted, bit for bit).
Lesson: lessons/step4_pretraining.py.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from llm_scratch import checkpoint
from llm_scratch.config import RunConfig, TrainConfig, learned, to_dict
from llm_scratch.data.corpus import Corpus, prepare, start_id
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import CHECKPOINT, DIVERGED, UserError, unknown
from llm_scratch.model import build
from llm_scratch.tokenizers import Tokenizer, save_tokenizer
from llm_scratch.training.interrupt import Stop, stop_signals
from llm_scratch.training.lock import only_writer
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.precision import Precision
from llm_scratch.training.records import Records, Watcher
from llm_scratch.training.saving import Saves
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.state import optimizer_tensors, plain_weights, random_state, restore_optimizer, restore_random, seed_random
from llm_scratch.training.step import mean_loss, train_step
from llm_scratch.training.trainee import Trainee, make_ready


@dataclass
class Run:
    """A run in progress: its parts, and where it is. `step` counts the optimizer steps that are done."""

    config: RunConfig
    folder: Path
    device: torch.device
    tokenizer: Tokenizer
    model: nn.Module
    trainee: Trainee
    optimizer: torch.optim.Optimizer
    train_loader: TokenLoader
    val_loader: TokenLoader
    bytes_per_token: float
    steps: int
    step: int = 0
    tokens: int = 0  # learned from so far
    best: float = math.inf
    last_eval: dict[str, float] = field(default_factory=dict)

    def advance(self) -> dict[str, float]:
        """Do one step; returns its row for metrics.jsonl.

        Raises:
            UserError: the loss or gradient is not finite (code 5).
        """
        cfg = self.config.train
        rate = learning_rate(self.step, self.steps, cfg)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        inputs, targets = (t.to(self.device) for t in self.train_loader.batch(self.step))
        parts = list(zip(inputs.chunk(cfg.micro_batches), targets.chunk(cfg.micro_batches)))
        result = train_step(self.trainee, self.optimizer, parts, cfg.max_norm)
        loss, norm, tokens = result.loss.item(), result.norm.item(), int(result.tokens)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise UserError(
                f"the loss is {loss} at step {self.step + 1} with lr={rate:.3g}: training diverged; the last checkpoint is as it was. "
                f"Try a lower --train.lr, a longer --train.warmup-steps or --train.max-norm 1.0",
                DIVERGED,
            )
        self.step += 1
        self.tokens += tokens
        bits = loss / math.log(2) / self.bytes_per_token
        return {"step": self.step, "tokens": self.tokens, "loss": loss, "bits_per_byte": bits, "lr": rate, "grad_norm": norm}

    def evaluate(self) -> dict[str, float]:
        """Loss on learned and on held-out text, in nats per token, and the latter in bits per byte."""
        loaders = (self.train_loader, self.val_loader)
        train, val = (mean_loss(self.trainee, loader, self.config.train.eval_batches, self.device) for loader in loaders)
        bits = val / math.log(2) / self.bytes_per_token
        self.last_eval = {"step": self.step, "tokens": self.tokens, "train_loss": train, "val_loss": val, "val_bits_per_byte": bits}
        return self.last_eval

    def check_weights(self) -> None:
        """Refuse weights that are not finite, before they are measured, sampled from or saved.

        Raises:
            UserError: names the first such weight (code 5).
        """
        for name, weight in self.model.named_parameters():
            if not torch.isfinite(weight).all():
                advice = "the last checkpoint is as it was. Try a lower --train.lr"
                raise UserError(f"{name} holds numbers that are not finite after step {self.step}: training diverged; {advice}", DIVERGED)

    def save(self, best: bool = False) -> None:
        """Write a checkpoint of this moment."""
        state = {
            "step": self.step, "steps": self.steps, "tokens": self.tokens, "best": self.best, "last_eval": self.last_eval,
            "random": random_state(), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "precision": self.trainee.precision.name,
        }  # fmt: skip
        checkpoint.save(
            self.folder, self.step, to_dict(self.config), plain_weights(self.model), optimizer_tensors(self.model, self.optimizer),
            state, lambda folder: save_tokenizer(self.tokenizer, folder), best,
        )  # fmt: skip

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Go back to the moment of a checkpoint."""
        checkpoint.set_weights(self.model, found.weights, str(found.folder))
        restore_optimizer(self.model, self.optimizer, found.optimizer)
        restore_random(found.state["random"])
        if self.config.machine.precision == "auto":  # what was tried out once holds for the whole run
            self.trainee.precision = Precision(found.state.get("precision", "float32"), "as the run began")
        self.step, self.tokens, self.best, self.last_eval = (found.state[key] for key in ("step", "tokens", "best", "last_eval"))


def total_steps(cfg: TrainConfig, loader: TokenLoader) -> int:
    """Steps of the whole run: `epochs` times the batches in a pass, or `steps`."""
    return cfg.steps if cfg.epochs is None else cfg.epochs * len(loader)


def start(config: RunConfig, folder: Path, device: torch.device, corpus: Corpus) -> Run:
    """A run at step 0, its weights drawn from the seed.

    Raises:
        UserError: no such optimizer, schedule or architecture; names the nearest.
    """
    cfg, T = config.train, config.model.context_length
    learning_rate(0, 1, cfg)
    if cfg.optimizer not in OPTIMIZERS:
        raise unknown("optimizer", cfg.optimizer, OPTIMIZERS)
    seed_random(cfg.seed)
    model = build(config.model).to(device)
    model.start_id = start_id(config.data, corpus.tokenizer)  # type: ignore[assignment]
    order, eot = config.data.order, corpus.tokenizer.eot_token
    loaders = (
        TokenLoader(corpus.train, T, cfg.batch_size, cfg.seed, order, eot),
        TokenLoader(corpus.val, T, cfg.batch_size, 0, order if order == "documents" else "in order", eot),
    )
    steps = total_steps(cfg, loaders[0])
    trainee = make_ready(model, config.machine, device, steps * cfg.batch_size * T * 6.0 * config.model.n_params)
    optimizer = OPTIMIZERS[cfg.optimizer](model, cfg)
    return Run(config, folder, device, corpus.tokenizer, model, trainee, optimizer, *loaders, corpus.bytes_per_token, steps)


def train(config: RunConfig, out: str | Path, *, device: str = "cpu", watcher: Watcher | None = None, corpus: Corpus | None = None) -> Run:
    """Train a model into the run directory `out`; if one of the same settings is there, go on where it stopped.

    Args:
        config: everything that decides the result.
        out: the run directory (see checkpoint.py and records.py for what lies in it).
        device: "cpu", "cuda", "mps".
        watcher: is told about steps, evaluations and samples (a progress bar, say).
        corpus: the text, if it is prepared already.
    Raises:
        UserError: bad text or settings; a run of other settings in `out`; diverged; disk full; stopped by Ctrl-C (after saving).
    """
    folder, watcher = Path(out), watcher or Watcher()
    corpus = corpus or prepare(config)
    run = start(config, folder, torch.device(device), corpus)
    with only_writer(folder, watcher.warn) as lock:
        found = checkpoint.newest(folder, watcher.warn, prefer="latest")
        if found is not None:
            if learned(found.config) != learned(to_dict(config)):
                raise UserError(f"{folder} holds a run with other settings; choose another --out, or --fresh to start over", CHECKPOINT)
            run.restore(found)
        checkpoint.check_room(folder, 3 * sum(p.nbytes for p in run.model.parameters()))  # AdamW keeps two numbers a weight
        with Records(config, folder, run.step, run.device) as records, stop_signals() as stop:
            watcher.started(run, resumed=found is not None)
            _loop(run, records, watcher, stop, Saves(lock, watcher.warn))
            watcher.finished(run)
    return run


def _loop(run: Run, records: Records, watcher: Watcher, stop: Stop, saves: Saves) -> None:
    """Steps until the end; what is due every so many steps is done after the step."""
    cfg = run.config.train
    if run.step == 0:
        _look(run, records, watcher)
    run.model.train()
    while run.step < run.steps:
        began, before = time.perf_counter(), run.tokens
        row = run.advance()
        row |= records.timed(run.model, run.tokens - before, time.perf_counter() - began)
        watcher.step(run, row)
        last = run.step == run.steps
        if run.step % cfg.log_every == 0 or last:
            records.metric(row)
        look = run.step % cfg.eval_every == 0 or last
        sample = bool(cfg.sample_every) and (run.step % cfg.sample_every == 0 or last)
        stopping = stop.asked  # asked now: a signal during what follows is for the next step
        save = run.step % cfg.save_every == 0 or last or stopping
        if look or sample or save:
            run.check_weights()
        best = run.best
        better = look and _look(run, records, watcher)
        if sample:
            records.sample(run, watcher)
        if (save or better) and not saves.attempt(partial(run.save, better), run.step, last or stopping):
            run.best = best
        if stopping and not last:
            raise UserError(f"stopped at step {run.step}, saved in {run.folder}; the same command goes on from there", stop.code)


def _look(run: Run, records: Records, watcher: Watcher) -> bool:
    """Evaluate; True when the held-out loss is the lowest so far."""
    scores = run.evaluate()
    records.metric(scores)
    better = scores["val_loss"] < run.best
    run.best = min(run.best, scores["val_loss"])
    watcher.evaluated(run, scores)
    return better and run.step > 0
