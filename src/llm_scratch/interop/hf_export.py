"""Export a model to a transformers folder: write it, reload it, compare the two, then rename it.

Biases of query, key and value, which GPT2LMHeadModel always has, are written as 0 if the model has
none. Models that it cannot express are rejected with the reason.
Tests: tests/interop/test_hf_export.py, tests/reliability/test_f10_round_trip.py
(bit-equal tensors, logits within 1e-5, equal ids).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf import family_of, to_config
from llm_scratch.interop.hf_compare import TOLERANCE, check_logits, read_theirs
from llm_scratch.interop.hf_tokenizer import check_exportable, write_tokenizer
from llm_scratch.interop.safetensors import SINGLE
from llm_scratch.interop.weight_map import check_unquantized, expand, named_tensors
from llm_scratch.model import LanguageModel
from llm_scratch.model.introspection import device_of
from llm_scratch.storage import files
from llm_scratch.storage.safetensors_writer import iter_bytes
from llm_scratch.tokenizers import CharTokenizer, Tokenizer
from llm_scratch.tokenizers.special import end_ids, end_of_text

N_NEW_TOKENS = 8  # generated to compare a continuation
N_TEXTS = 1000  # texts whose ids are compared


class Checked(NamedTuple):
    """Result of a comparison."""

    difference: float
    """of logits, relative to the largest"""
    texts: int
    """number of texts with equal ids"""


def export_hf(model: LanguageModel, tokenizer: Tokenizer, folder: str | Path) -> Checked | None:
    """Export a model and its tokenizer; returns the comparison, or None without transformers.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: a new or empty folder.
    Raises:
        UserError: transformers cannot express the model or tokenizer, the model is quantized, or
            the folder is not empty (code 2); the reloaded model differs (code 4); disk full
            (code 6). The folder is then unchanged.
    """
    folder = Path(folder)
    if not files.is_new_or_empty(folder):
        raise UserError(f"{folder} is not empty; choose a new or empty folder")
    check_unquantized(model)
    check_exportable(tokenizer)
    with files.atomic_folder(folder) as part:
        write(model, tokenizer, part)
        return compare(model, tokenizer, part)


def write(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, generation_config.json, model.safetensors and the tokenizer's files."""
    eot = end_of_text(tokenizer)
    config = to_config(model.cfg, model.start_id, eot)
    write_tokenizer(tokenizer, folder, model.cfg.context_length, model.start_id)
    files.filesystem.write(folder / SINGLE, iter_bytes(tensors(model), {"format": "pt"}))
    special = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
    tokens = {name: token for name, token in special.items() if token is not None}
    others = sorted(end_ids(tokenizer) - {eot})
    ends = {"eos_token_id": [eot, *others]} if others else {}
    generation = {**tokens, **ends, "do_sample": True}
    # a null in config.json is not the same as a missing key, which means the default
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        files.atomic_write(folder / name, json.dumps(content, indent=2) + "\n")


def tensors(model: LanguageModel) -> dict[str, Tensor]:
    """Convert the weights to transformers' names and shapes; a tied head is stored once."""
    state = {
        name: tensor.detach().to("cpu", torch.float32)
        for name, tensor in named_tensors(model).items()
    }
    _, family = family_of(model.cfg)
    return {
        mapped.theirs: mapped.join(state)
        for mapped in expand(family.rules_of(model.cfg), model.cfg.n_layers)
        if mapped.ours[0] in state or (family.has_all_biases and mapped.ours[0].endswith(".bias"))
    }


def compare(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> Checked | None:
    """Load a folder with transformers, and compare logits, token ids and a continuation with ours.

    Raises:
        UserError: they differ (code 4).
    """
    theirs = read_theirs(folder)
    if theirs is None:
        return None
    import transformers

    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    difference = check_logits(model, theirs)
    texts = sample_texts(tokenizer, N_TEXTS)
    first = [] if model.start_id is None else [model.start_id]
    for text, ids in zip(texts, their_tokenizer(texts, verbose=False)["input_ids"]):
        if [*first, *tokenizer.encode(text, allowed_special="all")] != ids:
            raise UserError(
                f"transformers reads another tokenizer: the ids of {text[:60]!r} differ", CHECKPOINT
            )
    # on the CPU, not on the GPU that it would take
    pipeline = transformers.pipeline(
        "text-generation", model=theirs, tokenizer=their_tokenizer, device="cpu"
    )
    check_continuation(model, tokenizer, pipeline, texts)
    return Checked(difference, len(texts))


@torch.inference_mode()
def check_continuation(
    model: LanguageModel, tokenizer: Tokenizer, pipeline: Any, texts: Sequence[str]
) -> None:
    """Compare a greedy continuation by transformers' text-generation pipeline with our model.

    Args:
        model, tokenizer: ours; the prompt begins with `model.start_id`, as in `generate`.
        pipeline: transformers' pipeline.
        texts: candidate prompts; the first that fits the context is used.
    Raises:
        UserError: the pipeline encodes other ids, or generates another token (code 4).
    """
    first = [] if model.start_id is None else [model.start_id]
    room = model.cfg.context_length - len(first) - N_NEW_TOKENS
    encoded = ((text, tokenizer.encode(text, allowed_special="all")) for text in texts)
    prompt, own = next(((text, ids) for text, ids in encoded if 0 < len(ids) <= room), ("", []))
    if not own:
        return  # the context is too short for a prompt and its continuation
    output = pipeline(
        prompt, max_new_tokens=N_NEW_TOKENS, do_sample=False, pad_token_id=0, return_tensors=True
    )
    ids = output[0]["generated_token_ids"]
    start = len(first) + len(own)
    if ids[:start] != [*first, *own]:
        raise UserError(
            f"transformers begins the prompt {prompt[:60]!r} with other ids:"
            f" {ids[:4]}, expected {[*first, *own][:4]}",
            CHECKPOINT,
        )
    device = device_of(model)
    logits = model(torch.tensor([ids], device=device)).float()[0, start - 1 : -1]  # [tokens, V]
    chosen = logits.gather(-1, torch.tensor(ids[start:], device=device)[:, None])[:, 0]
    if (logits.max(-1).values - chosen).max() > TOLERANCE * logits.abs().max():
        raise UserError(
            f"transformers continues the prompt {prompt[:60]!r} with another token than this model",
            CHECKPOINT,
        )


def sample_texts(tokenizer: Tokenizer, n: int) -> list[str]:
    """Deterministic texts to compare tokenizers: random tokens and, but for characters, Unicode."""
    draw, special = random.Random(0), end_of_text(tokenizer)
    known = [i for i in range(tokenizer.n_vocab) if i != special]
    texts = [tokenizer.decode(draw.choices(known, k=draw.randrange(1, 60))) for _ in range(n)]
    if isinstance(tokenizer, CharTokenizer):
        return texts
    letters = [
        *map(chr, range(0x20, 0x7F)),
        *"\n\t\r '’éßжяअ中文日本語한국😀👩‍🚀\u00a0\u200b\u0301",
    ]
    return [
        text if i % 2 else "".join(draw.choices(letters, k=draw.randrange(60)))
        for i, text in enumerate(texts)
    ]
