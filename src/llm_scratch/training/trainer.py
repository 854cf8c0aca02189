"""A run in progress: its parts, where it is, one step of it, and how it is written down and found again.

Steps are set going (`launch`) and read (`settle`) apart, because a GPU computes while we prepare what comes next: reading a number means
to wait for it. On a CPU the two follow each other.
Proof: tests/training/test_loop.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.config import RunConfig, to_dict
from llm_scratch.data.corpus import TextFingerprint
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.model import build
from llm_scratch.storage import checkpoint
from llm_scratch.tokenizers import Tokenizer, save_tokenizer
from llm_scratch.training.distributed import Distributed, is_sharded, local_shard, shard_like
from llm_scratch.training.model_with_loss import ModelWithLoss
from llm_scratch.training.parallel import micro_batches, reshard
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.spike_detector import MAX_ROLLBACKS, RecoveryState, SpikeDetector, inject_fault
from llm_scratch.training.state import (
    numerics,
    optimizer_tensors,
    restore_optimizer,
    restore_random,
    rng_state,
    seed_everything,
    unique_state_dict,
)
from llm_scratch.training.step import StepResult, mean_loss, train_step

ADVICE = "Try a lower --train.lr, a longer --train.warmup-steps or --train.max-norm 1.0"


class InFlightStep(NamedTuple):
    """A step that was enqueued: its learning rate, and what it measures, on the host once `ready` is reached."""

    rate: float
    result: StepResult
    ready: torch.cuda.Event | None
    """None: the values are there"""


@dataclass
class Trainer:
    """A run in progress: its parts, and where it is. `step` counts the optimizer steps that are done and read."""

    config: RunConfig
    folder: Path
    team: Distributed
    tokenizer: Tokenizer
    model: nn.Module
    trainee: ModelWithLoss
    learner: nn.Module  # the trainee, as the team learns with it
    optimizer: torch.optim.Optimizer
    train_loader: TokenLoader
    val_loader: TokenLoader
    bytes_per_token: float
    steps: int
    guard: SpikeDetector
    step: int = 0
    tokens: int = 0  # learned from so far
    best: float = math.inf
    last_eval: dict[str, float] = field(default_factory=dict)
    trouble: RecoveryState = field(default_factory=RecoveryState)
    in_flight: deque[InFlightStep] = field(default_factory=deque)
    max_in_flight: int = 0  # steps that are set going before an older one is read
    prompt: str = ""  # what samples begin with: the one of the settings, if the tokenizer can encode it
    text: TextFingerprint | None = None  # which text it learns from

    @property
    def device(self) -> torch.device:
        """What this process computes on."""
        return self.team.device

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of weights and optimizer, about: AdamW keeps two numbers a weight."""
        return 3 * sum(p.nbytes for p in self.model.parameters())

    def train_step(self, until: int = 0) -> dict[str, float]:
        """Do one step; returns its row for metrics.jsonl, with "loss", or with "skipped" if it was bad and no weight moved.

        Args:
            until: the `ahead` steps more that are set going before this one is read end here at the latest.
        """
        while not self.in_flight or (len(self.in_flight) <= self.max_in_flight and self.step + len(self.in_flight) < until):
            self.enqueue()
        return self.collect()

    def enqueue(self) -> None:
        """Set the next step going. Nobody waits for the device."""
        cfg, team, step = self.config.train, self.team, self.step + len(self.in_flight)
        rate = learning_rate(step, self.steps, cfg) * cfg.rollback_lr**self.trouble.returns
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        if team.size > 1:  # each process drops other places, and the same ones if the step is done again
            seed_everything(int(np.random.SeedSequence([cfg.seed, step, team.rank]).generate_state(1)[0]))
        batch = self.train_loader.batch(step + self.trouble.shift, team.rank, team.size)
        inputs, targets = (_moved(part, self.device) for part in batch)
        parts = list(zip(*(part.chunk(micro_batches(cfg, team)) for part in (inputs, targets))))
        with inject_fault(self.trainee, step + 1):
            result = train_step(self.learner, self.optimizer, parts, cfg.max_norm, self.guard, team)
        self.in_flight.append(InFlightStep(rate, *_to_host(result)))

    def collect(self) -> dict[str, float]:
        """Read the oldest step that was set going; its row, as `advance` returns it."""
        rate, result, ready = self.in_flight.popleft()
        if ready is not None:
            ready.synchronize()
        loss, norm, good = result.loss.item(), result.norm.item(), bool(result.good)
        self.step += 1
        self.trouble = self.trouble.after(good)
        if not good:
            what = {"loss": loss, "grad_norm": norm}
            numbers = {f"skipped_{name}": value for name, value in what.items() if math.isfinite(value)}
            return {"step": self.step, "tokens": self.tokens, "lr": rate, "skipped": self.trouble.skipped, **numbers}
        self.tokens += round(result.tokens.item() * self.team.size)
        bits = loss / math.log(2) / self.bytes_per_token
        return {"step": self.step, "tokens": self.tokens, "loss": loss, "bits_per_byte": bits, "lr": rate, "grad_norm": norm}

    def evaluate(self) -> dict[str, float]:
        """Loss on learned and on held-out text, in nats per token, and the latter in bits per byte."""
        cfg = self.config.train
        measure = partial(mean_loss, self.learner, batches=cfg.eval_batches, parts=micro_batches(cfg, self.team), team=self.team)
        train, val = measure(self.train_loader), measure(self.val_loader)
        reshard(self.learner)
        bits = val / math.log(2) / self.bytes_per_token
        passes = self.step / len(self.train_loader)  # over the text to learn from
        self.last_eval = {"step": self.step, "tokens": self.tokens, "passes": passes, "train_loss": train, "val_loss": val}
        self.last_eval["val_bits_per_byte"] = bits
        return self.last_eval

    def last_eval_is_finite(self) -> bool:
        """Whether the losses of the last evaluation are numbers; True before the first one."""
        return all(math.isfinite(value) for value in self.last_eval.values())

    def check_finite(self, tensors: dict[str, Tensor]) -> None:
        """Refuse weights, or an optimizer's memory of them, that are not finite, before they are measured, sampled from or saved.

        Raises:
            UserError: names the first such weight (code 5).
        """
        bad = next((name for name, tensor in tensors.items() if not checkpoint.all_finite(local_shard(tensor))), None)
        if self.team.all_reduce_max(int(bad is not None)):
            where = bad or "a weight of another process"
            advice = "the last checkpoint is as it was. Try a lower --train.lr"
            raise UserError(f"{where} holds numbers that are not finite after step {self.step}: training diverged; {advice}", DIVERGED)

    def gathered_model(self) -> nn.Module:
        """A model that process 0 can use by itself; all processes must ask. It is the model itself where nobody holds shares of it."""
        if not any(is_sharded(p) for p in self.model.parameters()):
            return self.model
        weights = self.team.gather(unique_state_dict(self.model))
        if not self.team.is_main:
            return self.model
        model = build(self.config.model).to(self.device)
        model.start_id = self.model.start_id
        checkpoint.set_weights(model, weights, "the run")
        return model

    def checkpoint_writer(self, copies: bool, best: bool, before: Callable[[], None]) -> Callable[[], object]:
        """What writes a checkpoint of this moment once process 0 calls it; all processes must ask.

        Args:
            copies: it holds weights and optimizer for itself, so that steps may be done before it is called, or while it is at work.
            best: name it in `best` too.
            before: as for `checkpoint.save`.
        """
        weights, optimizer = self.state_tensors(copies)
        state = {
            "step": self.step, "steps": self.steps, "tokens": self.tokens, "best": self.best, "last_eval": dict(self.last_eval),
            "random": rng_state(), "guard": self.guard.state(), "trouble": asdict(self.trouble),
        } | numerics(self.trainee, self.device)  # fmt: skip
        if not self.train_loader.whole_window_offsets:  # runs from before this key resume with their own rows
            state["row_offsets"] = "remainder"
        if self.text is not None:
            state["text"] = asdict(self.text)
        return partial(
            checkpoint.save, self.folder, self.step, to_dict(self.config), weights, optimizer, state,
            partial(save_tokenizer, self.tokenizer), best, before,
        )  # fmt: skip

    def state_tensors(self, copies: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights and optimizer, whole, for process 0; all processes must ask. `copies` as for `Team.collect`."""
        collect = partial(self.team.gather, copies=copies)
        return collect(unique_state_dict(self.model)), collect(optimizer_tensors(self.model, self.optimizer))

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Go to the moment of a checkpoint. Only process 0's needs to hold the tensors."""
        own = self.model.state_dict()
        weights = {name: shard_like(own.get(name, full), full) for name, full in self.team.broadcast_tensors(found.weights)}
        checkpoint.set_weights(self.model, weights, str(found.folder))
        for name, full in self.team.broadcast_tensors(found.optimizer):
            restore_optimizer(self.model, self.optimizer, {name: full})
        restore_random(found.state["random"])
        stored = {"precision": "float32"} | found.state  # the first format did not store it
        self.trainee.restore_choices(stored, self.config.machine, self.device)
        if "guard" in found.state:
            self.guard.restore(found.state["guard"])
        self.trouble = RecoveryState(**found.state.get("trouble", {}))
        self.step, self.tokens, self.best, self.last_eval = (found.state[key] for key in ("step", "tokens", "best", "last_eval"))

    def rollback(self, found: checkpoint.Checkpoint | None) -> str:
        """Go back to a checkpoint after a row of bad steps, and on from there with text that was not read yet; says so in words.

        Raises:
            UserError: there is none, or it has gone back often enough (code 5).
        """
        now, before = self.trouble, self.step
        said = f"steps {before - now.streak + 1} to {before} were bad (loss or gradient not finite, or far above the usual)"
        if found is None or now.returns == MAX_ROLLBACKS:
            why = "there is no checkpoint to go back to" if found is None else f"it has gone back {MAX_ROLLBACKS} times already"
            raise UserError(f"{said}, and {why}: training diverged; the last checkpoint is as it was. {ADVICE}", DIVERGED)
        self.in_flight.clear()
        self.restore(found)
        self.trouble = replace(now, streak=0, returns=now.returns + 1, shift=now.shift + before - self.step)
        batches = before - self.step
        return f"{said}: back to step {self.step}, and past the {batches} batches since (return {now.returns + 1} of {MAX_ROLLBACKS})"


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on its way to the device.

    To a GPU it goes from pinned memory, in line with the steps, and nobody waits for it: as a step is set going while the one before
    it computes (`Run.ahead`), its batch is there when it is its turn. It is made contiguous first: torch would copy a slice to
    contiguous memory that is not pinned, and the driver may synchronize with the stream for that.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def _to_host(result: StepResult) -> tuple[StepResult, torch.cuda.Event | None]:
    """Start copying a step's values to the host; the event is reached when they are there.

    Reading them from the GPU later (`.item()`) would wait for the whole stream, and so for the step that was enqueued after this
    one: the GPU would then be idle until the next one is enqueued.
    """
    if result.loss.device.type != "cuda":
        return result, None
    values = StepResult(*(value.to("cpu", non_blocking=True) for value in result))  # to pinned memory
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(result.loss.device))
    return values, ready
