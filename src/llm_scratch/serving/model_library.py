"""The models of the playground: a run, the snapshots of its training, and others to compare.

Models are keys of a table, never paths from a request. A few are kept in memory, the rest are
loaded again when needed.
Tests: tests/serving/test_model_library.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError, unknown
from llm_scratch.interpretability.capture import check_plain
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.storage import checkpoint
from llm_scratch.storage.snapshots import list_snapshots, load_snapshot

MAX_MODELS = 8
"""Models kept in memory."""
UNTRAINED = "untrained"
"""The name of the model with new random weights, to compare with."""


class NamedModel(NamedTuple):
    """A model with its tokenizer."""

    model: nn.Module
    tokenizer: Any


class ModelLibrary:
    """Models by name and training step.

    Args:
        sources: name -> what `loading.load` takes, or a loaded model; the first one is the page's.
        snapshots: the run whose snapshots are the page's film (default: the first source).
    Raises:
        UserError: the first model cannot be loaded, or is quantized.
    """

    def __init__(
        self, sources: Mapping[str, str | Path | NamedModel], snapshots: Path | None = None
    ) -> None:
        self.sources = dict(sources)
        self.main, first = next(iter(self.sources.items()))
        self.run = (
            snapshots if snapshots is not None or isinstance(first, NamedModel) else Path(first)
        )
        self._models: OrderedDict[tuple[str, int | None], NamedModel] = OrderedDict()
        self.get()

    @property
    def source(self) -> str:
        """Where the page's model is, as commands take it; its name if it was passed loaded."""
        source = self.sources[self.main]
        return self.main if isinstance(source, NamedModel) else Path(source).as_posix()

    @property
    def names(self) -> list[str]:
        """All models that can be shown."""
        can_be_untrained = UNTRAINED not in self.sources and isinstance(
            getattr(self.get().model, "cfg", None), Mapping | ModelConfig
        )
        return [*self.sources, *[UNTRAINED] * can_be_untrained]

    @property
    def steps(self) -> list[int]:
        """The training steps of the snapshots."""
        return [] if self.run is None else list_snapshots(self.run)

    def get(self, name: str = "", step: int | None = None) -> NamedModel:
        """A model in eval mode, of a snapshot if `step` is given.

        Raises:
            UserError: there is none of that name or step.
        """
        name = name or self.main
        if name != self.main and name not in self.names:
            raise unknown("model", name, self.names)
        key = (name, step)
        if key not in self._models:
            self._models[key] = self._load(name, step)
            while len(self._models) > MAX_MODELS:
                oldest = next(key for key in self._models if key != (self.main, None))
                del self._models[oldest]
        self._models.move_to_end(key)
        return self._models[key]

    def _load(self, name: str, step: int | None) -> NamedModel:
        if step is not None:
            model, tokenizer = self.get()
            weights = load_snapshot(self.run or Path(name), step)
            model = deepcopy(model)
            checkpoint.set_weights(model, weights, f"snapshot {step}")
            return NamedModel(model, tokenizer)
        if name not in self.sources:
            return _untrained(*self.get())
        source = self.sources[name]
        model, tokenizer = source if isinstance(source, NamedModel) else load(source)
        check_plain(model)
        if self._models and tokenizer.n_vocab != self.get().tokenizer.n_vocab:
            raise UserError(
                f"{name}: has another vocabulary than {self.main};"
                " compare runs with the same tokenizer",
                CHECKPOINT,
            )
        return NamedModel(model, tokenizer)


def _untrained(model: Any, tokenizer: Any) -> NamedModel:
    """A model of the same settings with random weights."""
    fresh = build(model.cfg).eval()
    fresh.start_id = model.start_id
    return NamedModel(fresh, tokenizer)
