"""Export a GPT in the five files of OpenAI's GPT-2 release, the inverse of interop/openai.py.

Missing biases of query, key and value are written as 0. Models that the format cannot express are rejected.
Tests: tests/interop/test_openai_export.py (read back with equal tensors, byte for byte as TensorFlow writes them).
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import UserError
from llm_scratch.interop.gpt2_weight_map import OPENAI, join, names
from llm_scratch.interop.openai import KEYS, PREFIX
from llm_scratch.interop.tensorflow_writer import write
from llm_scratch.storage.files import atomic_write
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.tokenizers.pretokens import GPT2_PATTERN
from llm_scratch.tokenizers.vocabulary import printable


def save_gpt2(model: nn.Module, tokenizer: ByteBPE, folder: str | Path) -> None:
    """Write a model and its tokenizer as `load_gpt2` and `download_and_load_gpt2` read them.

    Args:
        model: a GPTModel whose head is its token embedding (tie_embeddings=True), since the release has no other.
        tokenizer: its tokenizer.
        folder: created if missing; named after its size, it is found by `download_and_load_gpt2`.
    Raises:
        UserError: the model is not of that kind (code 2); the disk is full or not writable (code 6).
    """
    cfg = ModelConfig.of(model.cfg)  # type: ignore[arg-type]
    if cfg.architecture != "gpt" or not cfg.tie_embeddings:
        raise UserError(
            f"OpenAI's release holds a 'gpt' with tie_embeddings=True, and this is a {cfg.architecture!r} with {cfg.tie_embeddings}; "
            "`llm-scratch export hf` writes more kinds"
        )
    if tokenizer.splitter.pattern != GPT2_PATTERN:
        raise UserError("tokenizer: OpenAI's release needs GPT-2's split pattern, and this one has another; train a new tokenizer")
    if len(tokenizer.merges) + 256 + len(tokenizer.special_tokens) < tokenizer.n_vocab:
        raise UserError(
            "OpenAI's release numbers its tokens without gaps, and the ids of this tokenizer have some; use `llm-scratch export hf`"
        )
    folder, state = Path(folder), model.state_dict()
    tensors = {}
    for theirs, ours in names(OPENAI, cfg.n_layers):
        if theirs:
            array = join(state, ours, OPENAI).float().cpu().numpy()
            tensors[PREFIX + theirs] = array[None] if theirs.endswith("/w") else array  # there a matrix is a convolution of width 1
    folder.mkdir(parents=True, exist_ok=True)
    sizes = (cfg.vocab_size, cfg.context_length, cfg.emb_dim, cfg.n_heads, cfg.n_layers)
    atomic_write(folder / "hparams.json", json.dumps(dict(zip(KEYS, sizes))))
    special = {i: name for name, i in tokenizer.special_tokens.items()}
    tokens = {special.get(i) or printable(tokenizer.decode_bytes([i])): i for i in range(tokenizer.n_vocab)}
    merges = (f"{printable(left)} {printable(right)}\n" for left, right in tokenizer.merges)
    atomic_write(folder / "encoder.json", json.dumps(tokens))
    atomic_write(folder / "vocab.bpe", "#version: 0.2\n" + "".join(merges))
    write(folder / "model.ckpt", tensors)
