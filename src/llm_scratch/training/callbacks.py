"""Callbacks: what loggers, progress displays and your own code do at the events of a training run.

    class PrintLoss(Callback):
        def step(self, state, row):
            print(state.step, row["loss"])

    train(config, "runs/x", callbacks=[PrintLoss()])

Tests: tests/training/test_callbacks.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from llm_scratch.config import RunConfig

if TYPE_CHECKING:
    from torch import nn

P = ParamSpec("P")


@dataclass(kw_only=True)
class TrainState:
    """What callbacks see of a training run: its settings, its model, and how far it is."""

    config: RunConfig
    folder: Path
    """the run directory"""
    model: nn.Module
    steps: int
    """optimizer steps of the whole run"""
    step: int = 0
    """optimizer steps that are done"""
    tokens: int = 0
    """targets trained on so far"""
    best: float = math.inf
    """lowest validation loss so far, in nats per token"""
    last_eval: dict[str, float] = field(default_factory=dict)
    """the row of the last evaluation"""

    @property
    def description(self) -> str:
        """How the steps are computed, and why: precision, matmul library and compilation."""
        return ""


class Callback:
    """Base class of callbacks: methods that training calls at the events of a run.

    All do nothing, except that messages are printed.
    """

    def started(self, state: TrainState, resumed: bool) -> None:
        """Called before the first step; `resumed` if there was a checkpoint."""

    def step(self, state: TrainState, row: dict[str, float]) -> None:
        """Called after a step; `row` has step, tokens, loss, lr, grad_norm and the timing."""

    def evaluated(self, state: TrainState, scores: dict[str, float]) -> None:
        """Called after an evaluation; `scores` has train_loss and val_loss."""

    def sampled(self, state: TrainState, text: str) -> None:
        """Called with a sample that the model generated."""

    def logged(self, state: TrainState, row: dict[str, float]) -> None:
        """Called with each row of metrics.jsonl: a step, evaluation, skipped step or rollback."""

    def rolled_back(self, state: TrainState) -> None:
        """Called after a rollback to `state.step`: rows of later steps no longer count."""

    def flush(self) -> None:
        """Called by the thread that writes a checkpoint, before it does: logs must not be older."""

    def finished(self, state: TrainState) -> None:
        """Called when the last step is done and saved."""

    def closed(self, state: TrainState, error: BaseException | None) -> None:
        """Called at the end in any case, with the error that ended the run."""

    def note(self, message: str) -> None:
        """Called with a message that is not a warning."""
        print(message)

    def warn(self, message: str) -> None:
        """Called with a warning; training continues."""
        print(f"warning: {message}")


class Callbacks:
    """The callbacks of a run, called one after the other.

    Messages are printed, unless a callback overrides `note` or `warn`.

    Args:
        callbacks: in the order of their calls.
        is_main: whether this process reports; on other ranks nothing is called.
    """

    def __init__(self, callbacks: Iterable[Callback] = (), is_main: bool = True) -> None:
        self.callbacks = list(callbacks) if is_main else []
        self.is_main = is_main

    def emit(
        self, event: Callable[Concatenate[Any, P], None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call an event of each callback: `emit(Callback.step, state, row)`."""
        for callback in self.callbacks:
            getattr(callback, event.__name__)(*args, **kwargs)

    def note(self, message: str) -> None:
        """Report a message that is not a warning."""
        for callback in self._reporters("note"):
            callback.note(message)

    def warn(self, message: str) -> None:
        """Report a warning."""
        for callback in self._reporters("warn"):
            callback.warn(message)

    def _reporters(self, event: str) -> list[Callback]:
        """The callbacks that report messages in their own way; if none does, one that prints."""
        own = [
            callback
            for callback in self.callbacks
            if getattr(type(callback), event) is not getattr(Callback, event)
        ]
        if own or not self.is_main:
            return own
        return [Callback()]

    @contextmanager
    def closing(self, state: TrainState) -> Iterator[None]:
        """Call `closed` at the end of the block, whatever ends it."""
        try:
            yield
        except BaseException as error:
            self.emit(Callback.closed, state, error)
            raise
        self.emit(Callback.closed, state, None)
