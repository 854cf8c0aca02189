"""The state of a training run, one step of it, and saving and restoring it.

Steps are enqueued and collected separately so that a GPU never idles: reading a value waits for the
step that computes it. On a CPU each step is collected at once.
Tests: tests/training/test_loop.py.
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
from llm_scratch.model import LanguageModel, build
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

ADVICE = "Try a lower --train.lr, a longer --train.warmup-steps or --train.grad-clip 1.0"


class InFlightStep(NamedTuple):
    """An enqueued step: its learning rate, and its results, on the host once `ready` is reached."""

    rate: float
    result: StepResult
    ready: torch.cuda.Event | None
    """None: the values are there already"""


@dataclass
class Trainer:
    """A training run: its parts and its progress. `step` counts the optimizer steps that are collected."""

    config: RunConfig
    folder: Path
    team: Distributed
    tokenizer: Tokenizer
    model: LanguageModel
    model_with_loss: ModelWithLoss
    wrapped_model: nn.Module  # `model_with_loss`, wrapped by DDP or FSDP
    optimizer: torch.optim.Optimizer
    train_loader: TokenLoader
    val_loader: TokenLoader
    bytes_per_token: float
    steps: int
    guard: SpikeDetector
    step: int = 0
    tokens: int = 0  # targets trained on so far
    best: float = math.inf
    last_eval: dict[str, float] = field(default_factory=dict)
    recovery: RecoveryState = field(default_factory=RecoveryState)
    in_flight: deque[InFlightStep] = field(default_factory=deque)
    max_in_flight: int = 0  # steps that are enqueued before an older one is collected
    prompt: str = ""  # of the samples: the configured one, if the tokenizer can encode it
    text: TextFingerprint | None = None  # of the training text

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.team.device

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate bytes of weights and optimizer state: AdamW keeps two values per weight."""
        return 3 * sum(p.nbytes for p in self.model.parameters())

    def train_step(self, until: int = 0) -> dict[str, float]:
        """Complete one step and return its row for metrics.jsonl.

        The row has "loss", or "skipped" if the step was bad and changed no weight.

        Args:
            until: no step beyond this one is enqueued while this one is collected.
        """
        while not self.in_flight or (len(self.in_flight) <= self.max_in_flight and self.step + len(self.in_flight) < until):
            self.enqueue()
        return self.collect()

    def enqueue(self) -> None:
        """Enqueue the next step, without waiting for the device."""
        cfg = self.config.train
        team = self.team
        step = self.step + len(self.in_flight)
        rate = learning_rate(step, self.steps, cfg) * cfg.rollback_lr**self.recovery.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        if team.size > 1:  # dropout differs between ranks, and repeats if the step is redone
            seed_everything(int(np.random.SeedSequence([cfg.seed, step, team.rank]).generate_state(1)[0]))
        batch = self.train_loader.batch(step + self.recovery.skipped_batches, team.rank, team.size)
        inputs, targets = (_to_device(part, self.device) for part in batch)
        parts = list(zip(*(part.chunk(micro_batches(cfg, team)) for part in (inputs, targets))))
        with inject_fault(self.model_with_loss, step + 1):
            result = train_step(self.wrapped_model, self.optimizer, parts, cfg.grad_clip, self.guard, team)
        self.in_flight.append(InFlightStep(rate, *_to_host(result)))

    def collect(self) -> dict[str, float]:
        """Read the results of the oldest enqueued step; returns the row that `train_step` describes."""
        rate, result, ready = self.in_flight.popleft()
        if ready is not None:
            ready.synchronize()
        loss = result.loss.item()
        norm = result.norm.item()
        good = bool(result.good)
        self.step += 1
        self.recovery = self.recovery.after(good)
        if not good:
            measured = {"loss": loss, "grad_norm": norm}
            finite = {f"skipped_{name}": value for name, value in measured.items() if math.isfinite(value)}
            skipped = self.recovery.skipped
            return {"step": self.step, "tokens": self.tokens, "lr": rate, "skipped": skipped, **finite}
        self.tokens += round(result.tokens.item() * self.team.size)
        bits = loss / math.log(2) / self.bytes_per_token
        return {"step": self.step, "tokens": self.tokens, "loss": loss, "bits_per_byte": bits, "lr": rate, "grad_norm": norm}

    def evaluate(self) -> dict[str, float]:
        """Training and validation loss in nats per token, and the latter in bits per byte."""
        cfg = self.config.train
        measure = partial(mean_loss, self.wrapped_model, batches=cfg.eval_batches, parts=micro_batches(cfg, self.team), team=self.team)
        train, val = measure(self.train_loader), measure(self.val_loader)
        reshard(self.wrapped_model)
        bits = val / math.log(2) / self.bytes_per_token
        passes = self.step / len(self.train_loader)  # epochs, under the name of metrics.jsonl
        self.last_eval = {"step": self.step, "tokens": self.tokens, "passes": passes, "train_loss": train, "val_loss": val}
        self.last_eval["val_bits_per_byte"] = bits
        return self.last_eval

    def last_eval_is_finite(self) -> bool:
        """Whether the losses of the last evaluation are finite; True before the first one."""
        return all(math.isfinite(value) for value in self.last_eval.values())

    def check_finite(self, tensors: dict[str, Tensor]) -> None:
        """Check that weights or optimizer state are finite, before they are evaluated, sampled or saved.

        Raises:
            UserError: names the first tensor that is not (exit code 5).
        """
        bad = next((name for name, tensor in tensors.items() if not checkpoint.all_finite(local_shard(tensor))), None)
        if self.team.all_reduce_max(int(bad is not None)):
            name = bad or "a weight of another process"
            raise UserError(
                f"{name} has non-finite values after step {self.step}: training diverged; "
                "the last checkpoint is unchanged. Try a lower --train.lr",
                DIVERGED,
            )

    def gathered_model(self) -> LanguageModel:
        """The whole model, for rank 0; a collective call. Without sharded weights it is the model itself."""
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
        """A function that writes a checkpoint of this moment when rank 0 calls it; a collective call.

        Args:
            copies: hold copies of weights and optimizer state, so that training may continue
                before and while the function is called.
            best: mark the checkpoint as `best` too.
            before: as for `checkpoint.save`.
        """
        weights, optimizer = self.state_tensors(copies)
        state = {
            "step": self.step, "steps": self.steps, "tokens": self.tokens, "best": self.best, "last_eval": dict(self.last_eval),
            "start_id": self.model.start_id,
            "random": rng_state(), "spike_detector": self.guard.state(), "recovery": asdict(self.recovery),
        } | numerics(self.model_with_loss, self.device)  # fmt: skip
        if not self.train_loader.whole_window_offsets:  # runs from before this key resume with their own rows
            state["row_offsets"] = "remainder"
        if self.text is not None:
            state["text"] = asdict(self.text)
        return partial(
            checkpoint.save, self.folder, self.step, to_dict(self.config), weights, optimizer, state,
            partial(save_tokenizer, self.tokenizer), best, before,
        )  # fmt: skip

    def state_tensors(self, copies: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Unsharded weights and optimizer state, for rank 0; a collective call. `copies` as for `gather`."""
        collect = partial(self.team.gather, copies=copies)
        return collect(unique_state_dict(self.model)), collect(optimizer_tensors(self.model, self.optimizer))

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Restore the state of a checkpoint. Only rank 0 needs its tensors."""
        own = self.model.state_dict()
        weights = {name: shard_like(own.get(name, full), full) for name, full in self.team.broadcast_tensors(saved.weights)}
        checkpoint.set_weights(self.model, weights, str(saved.folder))
        for name, full in self.team.broadcast_tensors(saved.optimizer):
            restore_optimizer(self.model, self.optimizer, {name: full})
        restore_random(saved.state["random"])
        stored = {"precision": "float32"} | saved.state  # the first format did not store it
        self.model_with_loss.restore_choices(stored, self.config.system, self.device)
        if "spike_detector" in saved.state:
            self.guard.restore(saved.state["spike_detector"])
        self.recovery = RecoveryState(**saved.state.get("recovery", {}))
        self.step, self.tokens, self.best, self.last_eval = (saved.state[key] for key in ("step", "tokens", "best", "last_eval"))

    def rollback(self, saved: checkpoint.Checkpoint | None) -> str:
        """Restore a checkpoint after consecutive bad steps and skip past their data; returns a message.

        Raises:
            UserError: there is no checkpoint, or too many rollbacks already (exit code 5).
        """
        now = self.recovery
        failed_at = self.step
        first_bad = failed_at - now.consecutive_bad + 1
        cause = f"steps {first_bad} to {failed_at} were bad (loss or gradient not finite, or far above the usual)"
        if saved is None or now.rollbacks == MAX_ROLLBACKS:
            reason = "there is no checkpoint to roll back to" if saved is None else f"the run has rolled back {MAX_ROLLBACKS} times already"
            raise UserError(f"{cause}, and {reason}: training diverged; the last checkpoint is unchanged. {ADVICE}", DIVERGED)
        self.in_flight.clear()
        self.restore(saved)
        skipped = failed_at - self.step
        self.recovery = replace(now, consecutive_bad=0, rollbacks=now.rollbacks + 1, skipped_batches=now.skipped_batches + skipped)
        return (
            f"{cause}: rolled back to step {self.step}, skipping the {skipped} batches since "
            f"(rollback {now.rollbacks + 1} of {MAX_ROLLBACKS})"
        )


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device; to a GPU asynchronously, from pinned memory, in the order of the steps.

    A step is enqueued while the one before it computes (`Trainer.max_in_flight`), so its batch
    arrives in time. The tensor is made contiguous first: torch would copy a slice to contiguous
    memory that is not pinned, and the driver may synchronize with the stream for that.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def _to_host(result: StepResult) -> tuple[StepResult, torch.cuda.Event | None]:
    """Start copying a step's values to the host; the event is reached when they are there.

    Reading them from the GPU later (`.item()`) would wait for the whole stream, and so for the step
    that was enqueued after this
    one: the GPU would then be idle until the next one is enqueued.
    """
    if result.loss.device.type != "cuda":
        return result, None
    values = StepResult(*(value.to("cpu", non_blocking=True) for value in result))  # to pinned memory
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(result.loss.device))
    return values, ready
