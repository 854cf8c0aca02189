"""Export a GPT in the five files of OpenAI's GPT-2 release, the inverse of interop/openai.py.

Missing biases of query, key and value are written as 0.
Models that the format cannot express are rejected.
Tests: tests/interop/test_openai_export.py (read back with equal
tensors, byte for byte as TensorFlow writes them).
"""

from __future__ import annotations

import json
from pathlib import Path

from llm_scratch.architectures import NOT_IN_WEIGHTS, GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.gpt2_weight_map import OPENAI
from llm_scratch.interop.openai import KEYS, PREFIX
from llm_scratch.interop.tensorflow_writer import write
from llm_scratch.interop.weight_map import expand
from llm_scratch.model import LanguageModel
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.vocabulary import printable

SHAPE = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers")
"""The settings in hparams.json, in the order of `KEYS`."""


def save_gpt2(model: LanguageModel, tokenizer: ByteBPE, folder: str | Path) -> None:
    """Write a model and its tokenizer as `load_gpt2` and `download_and_load_gpt2` read them.

    Args:
        model: a GPTModel whose head is its token embedding (tie_embeddings=True),
            since the release has no other.
        tokenizer: its tokenizer.
        folder: created if missing; named after its size, it is found by `download_and_load_gpt2`.
    Raises:
        UserError: the model is not of that kind (code 2);
            the disk is full or not writable (code 6).
    """
    cfg = model.cfg
    required = {**GPTConfig(), "qkv_bias": cfg.get("qkv_bias"), "tie_embeddings": True}
    for name in {**cfg, **required}:
        if name not in (*SHAPE, *NOT_IN_WEIGHTS) and cfg.get(name) != required.get(name):
            raise UserError(
                f"OpenAI's release holds a model with {name}={required.get(name)}, and this one has"
                f" {name}={cfg.get(name)}; `llm-scratch export hf` writes more kinds"
            )
    if tokenizer.splitter.pattern != GPT2_PATTERN:
        raise UserError(
            "tokenizer: OpenAI's release needs GPT-2's split pattern, and this one has another;"
            " train a new tokenizer"
        )
    if len(tokenizer.merges) + 256 + len(tokenizer.special_tokens) < tokenizer.n_vocab:
        raise UserError(
            "OpenAI's release numbers its tokens without gaps,"
            " and the ids of this tokenizer have some; use `llm-scratch export hf`"
        )
    folder, state = Path(folder), model.state_dict()
    tensors = {}
    for mapped in expand(OPENAI, cfg.n_layers):
        if mapped.theirs:
            array = mapped.join(state).float().cpu().numpy()
            # there a matrix is a convolution of width 1
            tensors[PREFIX + mapped.theirs] = array[None] if mapped.theirs.endswith("/w") else array
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(
        folder / "hparams.json", json.dumps({key: cfg[name] for key, name in zip(KEYS, SHAPE)})
    )
    special = {i: name for name, i in tokenizer.special_tokens.items()}
    tokens = {
        special.get(i) or printable(tokenizer.decode_bytes([i])): i
        for i in range(tokenizer.n_vocab)
    }
    merges = (f"{printable(left)} {printable(right)}\n" for left, right in tokenizer.merges)
    atomic_write(folder / "encoder.json", json.dumps(tokens))
    atomic_write(folder / "vocab.bpe", "#version: 0.2\n" + "".join(merges))
    write(folder / "model.ckpt", tensors)
