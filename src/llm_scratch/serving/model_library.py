"""The models that the playground shows: a run, the snapshots of its training, and others to compare it with.

Models are keys of a table, never paths from a request. A few are kept in memory, the rest are
loaded again when needed. Tests: tests/serving/test_model_library.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
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
        paths: name -> what `loading.load` takes; the first one is the model of the page.
    Raises:
        UserError: the first model cannot be loaded, or is quantized.
    """

    def __init__(self, paths: Mapping[str, str | Path]) -> None:
        self.paths = dict(paths)
        self.main = next(iter(self.paths))
        self._models: OrderedDict[tuple[str, int | None], NamedModel] = OrderedDict()
        self.get()

    @property
    def names(self) -> list[str]:
        """All models that can be shown."""
        return [*self.paths, UNTRAINED]

    @property
    def steps(self) -> list[int]:
        """The training steps of the main model's snapshots."""
        return list_snapshots(Path(self.paths[self.main]))

    def get(self, name: str = "", step: int | None = None) -> NamedModel:
        """A model in eval mode, of a snapshot if `step` is given.

        Raises:
            UserError: there is none of that name or step.
        """
        name = name or self.main
        if name not in self.names:
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
        if name == UNTRAINED or step is not None:
            main, tokenizer = self.get()
            model = _like(main)
            if name != UNTRAINED:
                checkpoint.set_weights(model, load_snapshot(Path(self.paths[name]), step or 0), f"snapshot {step}")
            return NamedModel(model, tokenizer)
        model, tokenizer = load(self.paths[name])
        check_plain(model)
        if self._models and tokenizer.n_vocab != self.get().tokenizer.n_vocab:
            raise UserError(f"{name}: has another vocabulary than {self.main}; compare runs with the same tokenizer", CHECKPOINT)
        return NamedModel(model, tokenizer)


def _like(model: Any) -> nn.Module:
    """A model of the same settings with random weights."""
    fresh = build(ModelConfig.of(model.cfg)).eval()
    fresh.start_id = getattr(model, "start_id", None)  # type: ignore[assignment]
    return fresh
