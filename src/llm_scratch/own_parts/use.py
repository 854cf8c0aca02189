"""Replace the package's parts by a learner's, in the tables that a run is made from.

Tests: tests/own_parts/test_use.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from llm_scratch.architectures import ARCHITECTURES, Architecture, GPTConfig
from llm_scratch.config import TrainConfig
from llm_scratch.generation.sampling import SAMPLERS
from llm_scratch.own_parts.optimizer_parts import OwnOptimizer
from llm_scratch.own_parts.own_model import OwnGPT
from llm_scratch.own_parts.parts import check_parts, open_parts
from llm_scratch.own_parts.tokenizer_parts import own_bpe
from llm_scratch.presets import preset
from llm_scratch.tokenizers import MODEL_TYPES, TOKENIZERS, read_bpe, train_bpe
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import RATES, SCHEDULES

TABLES: tuple[dict[str, Any], ...] = (
    ARCHITECTURES,
    TOKENIZERS,
    MODEL_TYPES,
    OPTIMIZERS,
    RATES,
    SAMPLERS,
)


def use_parts(parts: Mapping[str, Any]) -> None:
    """Use a learner's parts in this process, in every run and model with the package's names.

    Args:
        parts: by the names of `parts.PARTS`.
    """
    if parts.keys() & {"LayerNorm", "GELU", "FeedForward", "MultiHeadAttention"}:
        ARCHITECTURES["gpt"] = Architecture(GPTConfig, partial(OwnGPT, parts=parts))
    learn, encode = parts.get("learn_merges"), parts.get("encode_word")
    if learn or encode:
        bpe = own_bpe(learn, encode)
        TOKENIZERS["bpe"] = partial(train_bpe, cls=bpe)
        MODEL_TYPES["BPE"] = partial(read_bpe, cls=bpe)
    updates = {name: parts[name] for name in ("adamw", "muon") if name in parts}
    if updates:
        for name in ("adamw", "muon"):
            OPTIMIZERS[name] = _own_optimizer(OPTIMIZERS[name], updates)
    if "learning_rate" in parts:
        RATES.update(dict.fromkeys(SCHEDULES, parts["learning_rate"]))
    SAMPLERS.update({name: parts[name] for name in SAMPLERS if name in parts})


def _own_optimizer(
    make: Callable[[nn.Module, TrainConfig], Any], updates: Mapping[str, Any]
) -> Callable[[nn.Module, TrainConfig], Any]:
    return lambda model, cfg: OwnOptimizer(make(model, cfg), cfg, **updates)


def use_file(path: str | Path) -> None:
    """Use the parts of a learner's file in this process, whether they are equal or not.

    A file with this call makes a run's own parts known to every command: `--import that.py`.

    Raises:
        UserError: as `open_parts`.
    """
    file = open_parts(Path(path), str(path))
    use_parts(file.written(check_parts(file, preset("quickstart"))))


@contextmanager
def parts_in_use(parts: Mapping[str, Any]) -> Iterator[None]:
    """Use a learner's parts inside the block."""
    before = [dict(table) for table in TABLES]
    use_parts(parts)
    try:
        yield
    finally:
        for table, old in zip(TABLES, before):
            table.clear()
            table.update(old)
