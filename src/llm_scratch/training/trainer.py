"""The state of a training run, one step of it, and saving and restoring it.

Steps are enqueued and collected separately (in_flight.py), so that a GPU never idles.
Tests: tests/training/test_trainer.py, tests/training/test_loop.py.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.config import RunConfig, to_dict
from llm_scratch.data.loader import TokenLoader
from llm_scratch.errors import DIVERGED, UserError
from llm_scratch.model import as_language_model, build
from llm_scratch.storage import checkpoint
from llm_scratch.training.callbacks import TrainState
from llm_scratch.training.checkpoint_writer import CheckpointData
from llm_scratch.training.distributed import Distributed, is_sharded, local_shard, shard_like
from llm_scratch.training.fault_injection import FaultHook, no_fault
from llm_scratch.training.in_flight import MAX_IN_FLIGHT, InFlightStep, to_device, to_host
from llm_scratch.training.model_with_loss import Loss, ModelWithLoss, prepare_for_training
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.parallel import check_batch_size, micro_batches, parallelize, reshard
from llm_scratch.training.recovery import MAX_ROLLBACKS, Decision, Recovery, diverged
from llm_scratch.training.run_data import RunData, total_steps
from llm_scratch.training.run_logger import StepTimer
from llm_scratch.training.schedule import learning_rate
from llm_scratch.training.state import (
    frozen_sha256,
    numerics,
    optimizer_tensors,
    restore_optimizer,
    restore_random,
    rng_state,
    seed_everything,
    trained_tensors,
    unique_state_dict,
)
from llm_scratch.training.step import mean_loss, train_step
from llm_scratch.training.validate import check_initial_model


@dataclass(kw_only=True)
class Trainer(TrainState):
    """A training run: its parts and its progress.

    `step` counts the optimizer steps that are collected.
    """

    distributed: Distributed
    data: RunData
    model_with_loss: ModelWithLoss
    wrapped_model: nn.Module
    """`model_with_loss`, wrapped by DDP or FSDP"""
    optimizer: torch.optim.Optimizer
    recovery: Recovery
    timer: StepTimer
    prompt: str = ""
    """of the samples"""
    inject_fault: FaultHook = no_fault
    frozen_sha256: str = ""
    """of the parameters that are not trained, which checkpoints leave out; "" if there are none"""
    in_flight: deque[InFlightStep] = field(default_factory=deque)
    max_in_flight: int = 0
    """steps that are enqueued before an older one is collected"""

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.distributed.device

    @property
    def description(self) -> str:
        """How the steps are computed, and why: precision, matmul library and compilation."""
        return self.model_with_loss.description

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate bytes of weights and optimizer state: AdamW keeps two values per weight."""
        return 3 * sum(p.nbytes for p in self.model.parameters() if p.requires_grad)

    def train_step(self, until: int = 0) -> tuple[Decision, dict[str, float]]:
        """Complete one step; returns what becomes of it, and its row for metrics.jsonl.

        The row has "loss", or "skipped" if the step was bad and changed no weight.

        Args:
            until: no step beyond this one is enqueued while this one is collected.
        """
        began = time.perf_counter()
        tokens_before = self.tokens
        while not self.in_flight or (
            len(self.in_flight) <= self.max_in_flight and self.step + len(self.in_flight) < until
        ):
            self.enqueue()
        decision, row = self.collect()
        if decision is Decision.KEEP:
            row |= self.timer.fields(
                self.model, self.tokens - tokens_before, time.perf_counter() - began
            )
        return decision, row

    def enqueue(self) -> None:
        """Enqueue the next step, without waiting for the device."""
        cfg = self.config.train
        distributed = self.distributed
        step = self.step + len(self.in_flight)
        rate = self.learning_rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        if distributed.size > 1:  # dropout differs between ranks, and repeats if the step is redone
            seed_everything(
                int(np.random.SeedSequence([cfg.seed, step, distributed.rank]).generate_state(1)[0])
            )
        batch = self.data.train.batch(
            step + self.recovery.counts.skipped_batches, distributed.rank, distributed.size
        )
        inputs, targets = (to_device(part, self.device) for part in batch)
        parts = list(
            zip(*(part.chunk(micro_batches(cfg, distributed)) for part in (inputs, targets)))
        )
        with self.inject_fault(step + 1, self.model_with_loss):
            result = train_step(
                self.wrapped_model,
                self.optimizer,
                parts,
                cfg.grad_clip,
                self.recovery.accept,
                distributed,
            )
        self.in_flight.append(InFlightStep(rate, *to_host(result)))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: the schedule's, lowered by each rollback."""
        cfg = self.config.train
        return (
            learning_rate(step, self.steps, cfg) * cfg.rollback_lr**self.recovery.counts.rollbacks
        )

    def collect(self) -> tuple[Decision, dict[str, float]]:
        """Read the results of the oldest enqueued step; returns what `train_step` describes."""
        rate, result, ready = self.in_flight.popleft()
        if ready is not None:
            ready.synchronize()
        loss = result.loss.item()
        norm = result.norm.item()
        self.step += 1
        decision = self.recovery.decide(bool(result.good))
        if decision is not Decision.KEEP:
            measured = {"loss": loss, "grad_norm": norm}
            finite = {
                f"skipped_{name}": value for name, value in measured.items() if math.isfinite(value)
            }
            skipped = self.recovery.counts.skipped
            return decision, {
                "step": self.step,
                "tokens": self.tokens,
                "lr": rate,
                "skipped": skipped,
                **finite,
            }
        self.tokens += round(result.tokens.item() * self.distributed.size)
        bits = self._bits_per_byte("bits_per_byte", loss)
        return decision, {
            "step": self.step,
            "tokens": self.tokens,
            "loss": loss,
            **bits,
            "lr": rate,
            "grad_norm": norm,
        }

    def evaluate(self) -> dict[str, float]:
        """Training and validation loss in nats per token; for text also val bits per byte."""
        cfg = self.config.train
        parts = micro_batches(cfg, self.distributed)
        measure = partial(
            mean_loss,
            self.wrapped_model,
            batches=cfg.eval_batches,
            parts=parts,
            distributed=self.distributed,
        )
        train, val = measure(self.data.train), measure(self.data.val)
        reshard(self.wrapped_model)
        passes = self.step / len(self.data.train)  # epochs, under the name of metrics.jsonl
        self.last_eval = {
            "step": self.step,
            "tokens": self.tokens,
            "passes": passes,
            "train_loss": train,
            "val_loss": val,
        }
        self.last_eval |= self._bits_per_byte("val_bits_per_byte", val)
        return self.last_eval

    def _bits_per_byte(self, name: str, loss: float) -> dict[str, float]:
        """A loss in nats per token as bits per byte of text; nothing for other data."""
        size = self.data.bytes_per_token
        return {} if size is None else {name: loss / math.log(2) / size}

    def last_eval_is_finite(self) -> bool:
        """Whether the losses of the last evaluation are finite; True before the first one."""
        return all(math.isfinite(value) for value in self.last_eval.values())

    def check_finite(self, tensors: dict[str, Tensor]) -> None:
        """Check that weights or optimizer state are finite, before an evaluation, sample or save.

        Raises:
            UserError: names the first tensor that is not (exit code 5).
        """
        bad = (name for name, t in tensors.items() if not checkpoint.all_finite(local_shard(t)))
        bad_name = next(bad, None)
        if self.distributed.all_reduce_max(int(bad_name is not None)):
            name = bad_name or "a weight of another process"
            raise UserError(
                f"{name} has non-finite values after step {self.step}: training diverged;"
                " the last checkpoint is unchanged. Try a lower --train.lr",
                DIVERGED,
            )

    def gathered_model(self) -> nn.Module:
        """The whole model, for rank 0; a collective call.

        Without sharded weights it is the model itself.
        """
        if not any(is_sharded(p) for p in self.model.parameters()):
            return self.model
        weights = self.distributed.gather(unique_state_dict(self.model))
        if not self.distributed.is_main:
            return self.model
        model = build(self.config.model).to(self.device)
        model.start_id = as_language_model(self.model).start_id
        checkpoint.set_weights(model, weights, "the run")
        return model

    def checkpoint_data(self, copies: bool = False) -> CheckpointData:
        """What a checkpoint of this moment stores; a collective call.

        Args:
            copies: hold copies of weights and optimizer state, so that training may continue before
                they are written.
        """
        weights, optimizer = self.state_tensors(copies)
        state = {
            "step": self.step,
            "steps": self.steps,
            "tokens": self.tokens,
            "best": self.best,
            "last_eval": dict(self.last_eval),
            "start_id": as_language_model(self.model).start_id,
            "random": rng_state(),
            **self.recovery.state(),
            **numerics(self.model_with_loss, self.device),
        }
        if isinstance(self.data.train, TokenLoader) and not self.data.train.whole_window_offsets:
            state["row_offsets"] = "remainder"  # runs from before this key resume with their rows
        if self.data.text is not None:
            state["text"] = asdict(self.data.text)
        if self.frozen_sha256:
            state["frozen_sha256"] = self.frozen_sha256
        return CheckpointData(
            self.step, to_dict(self.config), weights, optimizer, state, self.data.tokenizer
        )

    def state_tensors(self, copies: bool = False) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Unsharded trained weights and optimizer state, for rank 0; a collective call.

        `copies` as for `gather`.
        """
        collect = partial(self.distributed.gather, copies=copies)
        return collect(trained_tensors(self.model)), collect(
            optimizer_tensors(self.model, self.optimizer)
        )

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Restore the state of a checkpoint. Only rank 0 needs its tensors; frozen weights stay."""
        own = self.model.state_dict()
        weights = {
            name: shard_like(own.get(name, full), full)
            for name, full in self.distributed.broadcast_tensors(saved.weights)
        }
        checkpoint.set_weights(self.model, self._frozen_weights() | weights, str(saved.folder))
        restore_optimizer(
            self.model, self.optimizer, self.distributed.broadcast_tensors(saved.optimizer)
        )
        restore_random(saved.state["random"])
        stored = {"precision": "float32"} | saved.state  # the first format did not store it
        self.model_with_loss.restore_choices(stored, self.config.system, self.device)
        self.recovery.restore(saved.state)
        self.step, self.tokens, self.best, self.last_eval = (
            saved.state[key] for key in ("step", "tokens", "best", "last_eval")
        )

    def _frozen_weights(self) -> dict[str, Tensor]:
        return {
            name: parameter.detach()
            for name, parameter in self.model.named_parameters()
            if not parameter.requires_grad
        }

    def roll_back(self, saved: checkpoint.Checkpoint | None) -> str:
        """Go back to a checkpoint after consecutive bad steps, and skip past their data.

        Returns a message.

        Raises:
            UserError: there is no checkpoint, or too many rollbacks already (exit code 5).
        """
        failed_at = self.step
        before = self.recovery.counts
        if saved is None:
            raise diverged(before, failed_at, "there is no checkpoint to roll back to")
        if before.rollbacks == MAX_ROLLBACKS:
            raise diverged(
                before, failed_at, f"the run has rolled back {MAX_ROLLBACKS} times already"
            )
        self.in_flight.clear()
        self.restore(saved)
        return self.recovery.count_rollback(before, failed_at, self.step)


def build_trainer(
    config: RunConfig,
    folder: Path,
    data: RunData,
    distributed: Distributed,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    inject_fault: FaultHook = no_fault,
) -> Trainer:
    """Create a trainer at step 0.

    Args:
        config: the settings of the run.
        folder: the run directory.
        data: batches to train on and to evaluate.
        distributed: the processes that train together, and the device of this one.
        model: the model with its initial weights (default: built from the settings and the seed).
            Parameters that require no gradients are not trained, and not in checkpoints.
        loss, inject_fault: as for `ModelWithLoss` and `Trainer`.
    Raises:
        UserError: a model without a parameter to train, or none for `init_from`; a batch that the
            processes cannot share evenly.
    """
    cfg = config.train
    seed_everything(cfg.seed)
    check_initial_model(config, folder, model)
    model = build(config.model) if model is None else model
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            "model: no parameter requires gradients, so there is nothing to train;"
            " set requires_grad of those to train"
        )
    if distributed.size == 1 or config.system.parallel == "ddp":
        model = model.to(distributed.device)  # FSDP moves a model block by block
    if data.corpus is not None:
        check_batch_size(cfg, distributed)
        model.start_id = data.start_id  # type: ignore[assignment]
    frozen = frozen_sha256(model)
    steps = total_steps(cfg, data.train)
    # near enough to decide on compiling; `flops_per_token` would delay the start
    work = steps * cfg.batch_size * config.model.context_length * 6.0 * config.model.n_params
    model_with_loss = prepare_for_training(model, config.system, distributed.device, work, loss)
    # before the optimizer: FSDP replaces parameters
    wrapped_model = parallelize(model_with_loss, config.system, distributed)
    return Trainer(
        config=config,
        folder=folder,
        model=model,
        steps=steps,
        distributed=distributed,
        data=data,
        model_with_loss=model_with_loss,
        wrapped_model=wrapped_model,
        optimizer=OPTIMIZERS[cfg.optimizer](model, cfg),
        recovery=Recovery(cfg.spike_sigmas, distributed.device),
        timer=StepTimer(distributed.device),
        inject_fault=inject_fault,
        frozen_sha256=frozen,
        max_in_flight=MAX_IN_FLIGHT.get(distributed.device.type, 0),
    )
