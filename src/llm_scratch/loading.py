"""One door for every model: `model, tokenizer = load("runs/quickstart")`.

Takes a run directory (its best checkpoint), a checkpoint folder, a folder of OpenAI's GPT-2 release, or a `.pth` file that the
original notebooks wrote.
Nothing in a file is run: weights come from safetensors, or through torch's weights-only reader.
Proof: tests/test_loading.py.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch import checkpoint
from llm_scratch.config import ModelConfig, RunConfig, from_dict
from llm_scratch.data.corpus import start_id
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.model import build
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer

log = logging.getLogger(__name__)


def load(where: str | Path, device: str = "cpu") -> tuple[nn.Module, Tokenizer]:
    """A model ready to write, and its tokenizer.

    Args:
        where: a run directory, a checkpoint folder, a folder with `hparams.json` and `model.ckpt.index` (OpenAI's GPT-2), or a `.pth`
            file of the notebooks.
        device: where the weights go.
    Raises:
        UserError: nothing there, or what is there is damaged or would need code to be run (code 4).
    """
    path = Path(where)
    if path.is_file():
        model, tokenizer = _from_pth(path), TOKENIZERS["gpt2"]([], None)
    elif (path / "manifest.json").is_file():
        model, tokenizer = from_checkpoint(checkpoint.read(path))
    elif (path / "hparams.json").is_file() and (path / "model.ckpt.index").is_file():
        model, tokenizer = load_gpt2(path)
    elif (path / "ckpt").is_dir() and (found := checkpoint.newest(path, log.warning, prefer="best")) is not None:
        model, tokenizer = from_checkpoint(found)
    else:
        raise UserError(
            f"no model at {where}; expected a run directory, a checkpoint folder or a .pth file: `llm-scratch runs list`", CHECKPOINT
        )
    return model.to(device).eval(), tokenizer


def from_checkpoint(found: checkpoint.Checkpoint) -> tuple[nn.Module, Tokenizer]:
    """The model and tokenizer of a checkpoint that has been read."""
    config = from_dict(RunConfig, found.config)
    model = build(config.model)
    checkpoint.set_weights(model, found.weights, str(found.folder))
    tokenizer = load_tokenizer(found.folder)
    model.start_id = start_id(config.data, tokenizer)  # type: ignore[assignment]
    return model, tokenizer


def _from_pth(path: Path) -> nn.Module:
    """A model from the notebooks' `model.pth` or `model_and_optimizer.pth`."""
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # the reader's own errors differ by what is wrong with the file
        reason = str(e).split("\n")[0][:120]
        raise UserError(f"{path} is not a file of weights alone ({reason}); save it as safetensors, or as a state_dict", CHECKPOINT) from e
    try:
        weights = saved.get("model_state_dict", saved)
        model = build(config_of(weights))
        checkpoint.set_weights(model, weights, str(path))
    except (AttributeError, KeyError, ValueError, TypeError) as e:
        raise UserError(f"{path} holds no state_dict of a GPTModel; expected tok_emb.weight and the rest", CHECKPOINT) from e
    return model


def config_of(weights: dict[str, Tensor]) -> ModelConfig:
    """The shape of a model, read off its weights. Heads leave no trace in them: 64 numbers a head, as in every GPT-2, are assumed."""
    V, C = weights["tok_emb.weight"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("trf_blocks."))
    return ModelConfig(
        vocab_size=V,
        context_length=weights["pos_emb.weight"].shape[0],
        emb_dim=C,
        n_heads=max(1, C // 64),
        n_layers=layers,
        qkv_bias="trf_blocks.0.att.W_query.bias" in weights,
    )
