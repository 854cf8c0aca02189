"""The model and tokenizer of a checkpoint, once its files are read.

Tests: tests/test_loading.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from llm_scratch.architectures import ModelConfig
from llm_scratch.config import RunConfig, from_dict
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.model import LanguageModel, build
from llm_scratch.model.quantized import quantize
from llm_scratch.storage import checkpoint
from llm_scratch.storage.user_code import check_own_parts
from llm_scratch.tokenizers import Tokenizer, load_tokenizer
from llm_scratch.tokenizers.special import end_of_text

UNCHECKED_PARAMETERS = 1 << 26
"""parameters up to which a model is built without comparing its config with the size of its file"""


def from_checkpoint(saved: checkpoint.Checkpoint) -> tuple[LanguageModel, Tokenizer]:
    """The model and tokenizer of a loaded checkpoint.

    Raises:
        UserError: it lacks weights that were frozen (exit code 4).
    """
    config = from_dict(RunConfig, saved.config)
    if "frozen_sha256" in saved.state:
        raise UserError(
            f"{saved.folder}: holds only the trained part of a model with frozen weights;"
            " resume it from Python",
            CHECKPOINT,
        )
    check_own_parts(config.parts, config.different_parts, saved.folder)
    model = build(check_parameter_count(config.model, saved.weights, saved.folder))
    if saved.quantized:
        quantize(model, saved.quantized)
    checkpoint.set_weights(model, saved.weights, str(saved.folder))
    tokenizer = load_tokenizer(saved.folder)
    if "start_id" in saved.state:
        model.start_id = saved.state["start_id"]
    elif config.data.order == "documents":  # before format 3, only the order showed it
        model.start_id = end_of_text(tokenizer)
    return model, tokenizer


def check_parameter_count(
    cfg: ModelConfig, weights: Mapping[str, Tensor], where: Path
) -> ModelConfig:
    """Reject a config far larger than its weights, before memory is allocated; returns the config.

    Raises:
        UserError: the weights have far fewer parameters (exit code 4).
    """
    n_values = sum(tensor.numel() for tensor in weights.values())
    # 4-bit weights are stored in pairs; other architectures differ
    if cfg.n_params > max(4 * n_values, UNCHECKED_PARAMETERS):
        raise UserError(
            f"{where}: config describes {cfg.n_params:,} parameters, but the file has {n_values:,};"
            " file and config do not match",
            CHECKPOINT,
        )
    return cfg
