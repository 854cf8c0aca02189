"""Load the notebooks' files: `model.pth`, and `model_and_optimizer.pth` with AdamW's state.

Names and layouts are ours; the causal masks in the files are dropped. AdamW numbers its state in
the order in which the parameters were created, which is ours (contract), so training can resume
from it.
Tests: tests/interop/test_notebook.py, tests/test_loading.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.architectures import GPTConfig
from llm_scratch.errors import CHECKPOINT, UserError, describe_error
from llm_scratch.interop.gpt2_weight_map import EMBEDDING, HEAD
from llm_scratch.interop.openai import model_configs
from llm_scratch.interop.torch_file import StateDictSource

WITH_OPTIMIZER = ("model_state_dict", "optimizer_state_dict")
NESTED = (WITH_OPTIMIZER[0], "state_dict", "model")
"""Keys under which a file may keep its state_dict."""
REQUIRED_DEFAULTS = {
    "eps": 1e-8,
    "amsgrad": False,
    "maximize": False,
    "decoupled_weight_decay": True,
}
"""AdamW's defaults, the only values that are supported."""
DROP_RATE = 0.1
"""Dropout of the notebooks' models, which cannot be read from the weights."""


def weights_of(saved: Any, path: Path) -> dict[str, Tensor]:
    """Find the state_dict in the content of a torch file.

    Raises:
        UserError: no state_dict of a GPTModel, or a tensor that cannot be a weight (code 4).
    """
    nested = (saved.get(key) for key in NESTED) if isinstance(saved, dict) else ()
    state = next((state for state in nested if isinstance(state, dict)), saved)
    source = StateDictSource(state, path)
    if EMBEDDING not in source.tensors:
        raise UserError(
            f"{path} holds no state_dict of a GPTModel; expected tok_emb.weight and the rest",
            CHECKPOINT,
        )
    weights = {
        name: tensor for name, tensor in source.tensors.items() if not name.endswith("att.mask")
    }
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise UserError(
                f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')};"
                " expected float32",
                CHECKPOINT,
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} has values that are not finite", CHECKPOINT)
    return weights


def config_of(
    weights: dict[str, Tensor], path: Path, n_heads: int = 1, drop_rate: float | None = None
) -> GPTConfig:
    """Infer the shape of a model from its weights.

    Args:
        weights: the result of `weights_of`.
        path: the file, for errors.
        n_heads: attention heads per layer; no tensor's shape depends on it (see `known_heads`).
        drop_rate: dropout for further training (default: the notebooks').
    Raises:
        UserError: the weights are not those of a GPTModel (code 4).
    """
    try:
        V, C = weights["tok_emb.weight"].shape
        T, _ = weights["pos_emb.weight"].shape
        layers = 1 + max(
            int(name.split(".")[1]) for name in weights if name.startswith("trf_blocks.")
        )
    except (KeyError, ValueError) as e:
        raise UserError(
            f"{path} holds no state_dict of a GPTModel; expected tok_emb.weight and the rest",
            CHECKPOINT,
        ) from e
    if layers > len(weights):
        raise UserError(
            f"{path}: its blocks are numbered up to {layers - 1:,},"
            f" and it has {len(weights)} tensors",
            CHECKPOINT,
        )
    return GPTConfig(
        V,
        T,
        C,
        n_heads,
        layers,
        drop_rate=DROP_RATE if drop_rate is None else drop_rate,
        qkv_bias="trf_blocks.0.att.W_query.bias" in weights,
        tie_embeddings=_is_tied(weights),
    )


def _is_tied(weights: dict[str, Tensor]) -> bool:
    """Whether the head is tied to the embedding: missing, or sharing its state."""
    head = weights.get(HEAD)
    return head is None or head.data_ptr() == weights[EMBEDDING].data_ptr()


def known_heads(cfg: GPTConfig) -> int | None:
    """Attention heads of the GPT-2 of the same vocabulary, width and depth, or None."""
    sizes = {
        (shape["emb_dim"], shape["n_layers"]): shape["n_heads"] for shape in model_configs.values()
    }
    return (
        sizes.get((cfg.emb_dim, cfg.n_layers)) if cfg.vocab_size == GPTConfig().vocab_size else None
    )


def unknown_heads(path: Path, emb_dim: int) -> UserError:
    """Make the error for an unknown number of heads: a wrong one loads, but generates garbage."""
    return UserError(
        f"{path}: the file does not contain the number of attention heads; import it with the"
        f" number used in training: llm-scratch import {path} --heads N --out NEW (for"
        f" emb_dim={emb_dim} e.g. {_usual_heads(emb_dim)})",
        CHECKPOINT,
    )


def wrong_heads(path: Path, emb_dim: int, n_heads: int | None) -> UserError:
    """Make the error for a number of heads that does not divide the width of the model."""
    return UserError(
        f"{path}: its emb_dim={emb_dim} is not a multiple of {n_heads} heads;"
        f" use the number of heads used in training, e.g. {_usual_heads(emb_dim)}"
    )


def _usual_heads(emb_dim: int) -> str:
    """Numbers of heads with a usual size of a head, for an error."""
    usual = [
        n for n in range(1, emb_dim + 1) if emb_dim % n == 0 and emb_dim // n in (16, 32, 64, 128)
    ]
    return ", ".join(map(str, usual or [1]))


def optimizer_of(
    saved: Any, model: nn.Module, path: Path
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Convert AdamW's state, and the settings to resume training as the notebooks would.

    State has names such as `tok_emb.weight/exp_avg`. Both results are empty if the file has no
    state. The notebooks apply weight decay to all weights, including norms and biases, without
    clipping or skipping.

    Raises:
        UserError: the state does not match the model, or an unsupported optimizer (code 4).
    """
    optimizer = saved.get(WITH_OPTIMIZER[1]) if isinstance(saved, dict) else None
    if not optimizer or not optimizer.get("state"):
        return {}, {}
    params = list(model.named_parameters())
    try:
        (group,) = optimizer["param_groups"]
        if list(group["params"]) != list(range(len(params))):
            raise ValueError(f"it has {len(group['params'])} parameters, the model {len(params)}")
        if odd := [
            name for name, wanted in REQUIRED_DEFAULTS.items() if group.get(name, wanted) != wanted
        ]:
            raise ValueError(
                f"its {odd[0]} is {group[odd[0]]!r:.40},"
                f" only {REQUIRED_DEFAULTS[odd[0]]} is supported"
            )
        state = {}
        for i, (name, parameter) in enumerate(params):
            for key in ("exp_avg", "exp_avg_sq"):
                value = StateDictSource({name: optimizer["state"][i][key]}, path).read(name)
                if value.shape != parameter.shape or not torch.isfinite(value).all():
                    raise ValueError(
                        f"{key} of {name} is not finite or is {tuple(value.shape)},"
                        f" not {tuple(parameter.shape)}"
                    )
                state[f"{name}/{key}"] = value.float().clone()
            state[f"{name}/step"] = torch.tensor(float(optimizer["state"][i]["step"]))
        settings = {
            "lr": float(group["lr"]),
            "weight_decay": float(group["weight_decay"]),
            "betas": tuple(map(float, group["betas"])),
        }
        settings |= {
            "optimizer": "adamw",
            "decay": "all",
            "schedule": "constant",
            "min_lr": settings["lr"],
            "warmup_steps": 0,
        }
        settings |= {"grad_clip": None, "spike_sigmas": 0.0}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(
            f"{path}: its optimizer_state_dict does not fit: {describe_error(e)};"
            " save the state_dict alone",
            CHECKPOINT,
        ) from e
    return state, settings
