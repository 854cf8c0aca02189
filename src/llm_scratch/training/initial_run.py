"""Write a run directory for a model that was not trained here: imported, or quantized.

Tests: tests/cli/test_import_model.py, tests/cli/test_quantize.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from llm_scratch.config import RunConfig, dump_config, to_dict
from llm_scratch.model import LanguageModel
from llm_scratch.storage import checkpoint
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers import Tokenizer, save_tokenizer
from llm_scratch.training.state import unique_state_dict


def write_initial_run(
    folder: Path,
    config: RunConfig,
    model: LanguageModel,
    tokenizer: Tokenizer,
    state: Mapping[str, Any],
    optimizer: dict[str, Tensor] | None = None,
) -> None:
    """Write a run with one checkpoint, of step 0.

    Args:
        folder: the run directory.
        config: its settings.
        model, tokenizer: saved in the checkpoint.
        state: more entries of the checkpoint's state, such as `made_from`, the origin of the model.
        optimizer: its tensors by name (default: none; training starts with a new optimizer).
    Raises:
        UserError: the disk is full or not writable (code 6).
    """
    counters = {"step": 0, "steps": 0, "tokens": 0, "start_id": model.start_id, **state}
    weights = unique_state_dict(model)
    checkpoint.save(
        folder,
        0,
        to_dict(config),
        weights,
        optimizer or {},
        counters,
        lambda into: save_tokenizer(tokenizer, into),
        best=True,
    )
    atomic_write(folder / "config.yaml", dump_config(config))
