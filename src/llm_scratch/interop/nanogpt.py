"""nanoGPT's ckpt.pt: GPT-2's names, matrices as PyTorch has them, the exact GELU, and biases only if its settings say so.

Its optimizer's memory is left behind: its groups are in an order that the file does not tell.
Tests: tests/interop/test_import.py (logits equal to those of nanoGPT's formula).
Source: https://github.com/karpathy/nanoGPT, model.py and train.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gpt2_weight_map import NANOGPT, assemble, biases
from llm_scratch.interop.torch_file import StateDictSource

SHAPE_FIELDS = {"vocab_size": "vocab_size", "block_size": "context_length", "n_embd": "emb_dim", "n_head": "n_heads", "n_layer": "n_layers"}
"""nanoGPT's names of five settings -> ours."""
OPTIONAL = {"bias", "dropout"}


def is_nanogpt(saved: Any) -> bool:
    """Whether what torch.save wrote is a checkpoint of nanoGPT's."""
    return isinstance(saved, dict) and isinstance(saved.get("model_args"), dict) and "model" in saved


def load_nanogpt(saved: dict[str, Any], path: Path) -> nn.Module:
    """The model in a checkpoint.

    Raises:
        UserError: its settings are of another model, or its tensors do not fit them (code 4).
    """
    args = saved["model_args"]
    if odd := sorted(name for name, value in args.items() if name not in SHAPE_FIELDS.keys() | OPTIONAL and value):
        raise UserError(f"{path}: model_args has {odd[0]}={args[odd[0]]!r}, which nanoGPT's own model does not know", CHECKPOINT)
    for key in SHAPE_FIELDS:
        if type(args.get(key)) is not int or args[key] < 1:
            raise UserError(f"{path}: model_args[{key!r}] is {str(args.get(key))[:40]!r}; expected a whole number from 1 on", CHECKPOINT)
    if args["n_embd"] % args["n_head"]:
        raise UserError(f"{path}: n_embd={args['n_embd']} is not a multiple of n_head={args['n_head']}", CHECKPOINT)
    bias, drop = args.get("bias", True), args.get("dropout", 0.0)
    if type(bias) is not bool or not isinstance(drop, int | float) or not 0 <= drop < 1:
        raise UserError(f"{path}: model_args has bias={bias!r}, dropout={drop!r}; expected true or false, and a share", CHECKPOINT)
    shape = {ours: args[theirs] for theirs, ours in SHAPE_FIELDS.items()}
    cfg = ModelConfig(**shape, drop_rate=float(drop), qkv_bias=bias, tie_embeddings=True, architecture="gpt-erf")
    source = StateDictSource(saved["model"], path)
    plain = {name.removeprefix("transformer."): tensor for name, tensor in source.tensors.items()}
    source.tensors = {name: tensor for name, tensor in plain.items() if not name.endswith(".attn.bias")}  # who may look at whom
    return assemble(cfg, source, NANOGPT, path, "model_args", absent=() if bias else biases(with_shifts=True))
