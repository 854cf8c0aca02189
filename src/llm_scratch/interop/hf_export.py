"""Our model as a folder that transformers reads: written beside its place, reloaded by transformers, compared, and only then put there.

What GPT2LMHeadModel has and we have not (a bias of query, key and value) is written as 0; what it cannot be is refused with the reason.
Tests: tests/interop/test_hf_export.py, tests/reliability/test_f10_round_trip.py (bit-equal tensors, logits within 1e-5, equal ids).
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig
from llm_scratch.errors import CHECKPOINT, RESOURCES, UserError
from llm_scratch.interop.gpt2_weight_map import HEAD, HF, join, names
from llm_scratch.interop.hf import to_config
from llm_scratch.interop.hf_tokenizer import check_exportable, write_tokenizer
from llm_scratch.interop.safetensors import SINGLE
from llm_scratch.storage import files
from llm_scratch.storage.safetensors_writer import iter_bytes
from llm_scratch.tokenizers import CharTokenizer, Tokenizer
from llm_scratch.tokenizers.special import end_of_text

TOLERANCE = 1e-4
"""largest difference of two logits, as a share of the largest logit, in float32"""
CONTINUED = 8  # tokens that a prompt is continued by
ROWS, LONGEST, TEXTS = 2, 256, 1000  # rows of tokens whose logits are compared, their length at most; texts whose ids are


class Checked(NamedTuple):
    """What a comparison found."""

    difference: float
    """of logits, as a share of the largest"""
    texts: int
    """that gave equal ids"""


def export_hf(model: nn.Module, tokenizer: Tokenizer, folder: str | Path) -> Checked | None:
    """Write the folder; None if transformers is not installed, so that nothing could be compared.

    Args:
        folder: a new or empty one.
    Raises:
        UserError: transformers cannot express the model or the tokenizer, or there is something in the folder (code 2); what it read
            back differs (code 4); the disk is full (code 6). The folder is then as it was.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; expected a new or empty folder")
    check_exportable(tokenizer)
    part = folder.absolute().with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        write(model, tokenizer, part)
        checked = compare(model, tokenizer, part)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}; free some space or choose another folder", RESOURCES) from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return checked


def write(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors, tokenizer.json, tokenizer_config.json and generation_config.json."""
    cfg, eot = ModelConfig.of(model.cfg), end_of_text(tokenizer)  # type: ignore[arg-type]
    config = to_config(cfg, model.start_id, eot)  # type: ignore[arg-type]
    files.filesystem.make_folder(folder)
    write_tokenizer(tokenizer, folder, cfg.context_length, model.start_id)  # type: ignore[arg-type]
    files.filesystem.write(folder / SINGLE, iter_bytes(tensors(model, cfg), {"format": "pt"}))
    generation = {"bos_token_id": eot, "eos_token_id": eot, "do_sample": True}
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        files.atomic_write(folder / name, json.dumps({key: value for key, value in content.items() if value is not None}, indent=2) + "\n")


def tensors(model: nn.Module, cfg: ModelConfig) -> dict[str, Tensor]:
    """The weights under transformers' names and in its shapes; a tied head is in the file once."""
    state = {name: parameter.detach().to("cpu", torch.float32) for name, parameter in model.named_parameters()}
    found = {}
    for theirs, ours in names(HF, cfg.n_layers):
        if ours != (HEAD,):
            found[f"transformer.{theirs}"] = join(state, ours, HF)
        elif not cfg.tie_embeddings:
            found[theirs] = state[HEAD]
    return found


def compare(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> Checked | None:
    """Read a folder with transformers, and compare its logits, its ids and a continued prompt with ours.

    Raises:
        UserError: they differ (code 4).
    """
    try:
        import transformers
    except ImportError:
        return None
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
        their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    finally:
        if bar:
            transformers.utils.logging.enable_progress_bar()
    difference = logits_differ(model, theirs)
    if not difference <= TOLERANCE:
        raise UserError(f"transformers reads another model: logits differ by {difference:.1e} of the largest, expected 1e-4", CHECKPOINT)
    texts = sample_texts(tokenizer, TEXTS)
    first = [] if model.start_id is None else [model.start_id]
    for text, ids in zip(texts, their_tokenizer(texts, verbose=False)["input_ids"]):
        if [*first, *tokenizer.encode(text, allowed_special="all")] != ids:
            raise UserError(f"transformers reads another tokenizer: the ids of {text[:60]!r} differ", CHECKPOINT)
    pipeline = transformers.pipeline("text-generation", model=theirs, tokenizer=their_tokenizer)
    check_continuation(model, tokenizer, pipeline, texts)
    return Checked(difference, len(texts))


@torch.inference_mode()
def check_continuation(model: nn.Module, tokenizer: Tokenizer, pipeline: Any, texts: Sequence[str]) -> None:
    """Let transformers' text-generation pipeline continue a prompt greedily, as a user would, and follow it with our model.

    Args:
        model, tokenizer: ours; the prompt begins with `model.start_id`, as in `generate`.
        pipeline: theirs.
        texts: prompts to choose from; one that leaves room in the context is taken.
    Raises:
        UserError: the pipeline gives its model other ids, or its model continues with another token (code 4).
    """
    cfg = ModelConfig.of(model.cfg)  # type: ignore[arg-type]
    first = [] if model.start_id is None else [model.start_id]
    room = cfg.context_length - len(first) - CONTINUED
    encoded = ((text, tokenizer.encode(text, allowed_special="all")) for text in texts)
    prompt, own = next(((text, ids) for text, ids in encoded if 0 < len(ids) <= room), ("", []))
    if not own:
        return  # the context has no room for a prompt and its continuation
    given = pipeline(prompt, max_new_tokens=CONTINUED, do_sample=False, pad_token_id=0, return_tensors=True)
    ids = given[0]["generated_token_ids"]
    start = len(first) + len(own)
    if ids[:start] != [*first, *own]:
        raise UserError(
            f"transformers begins the prompt {prompt[:60]!r} with other ids: {ids[:4]}, expected {[*first, *own][:4]}", CHECKPOINT
        )
    device = next(model.parameters()).device
    logits = model(torch.tensor([ids], device=device)).float()[0, start - 1 : -1]  # [tokens, V]
    chosen = logits.gather(-1, torch.tensor(ids[start:], device=device)[:, None])[:, 0]
    if (logits.max(-1).values - chosen).max() > TOLERANCE * logits.abs().max():
        raise UserError(f"transformers continues the prompt {prompt[:60]!r} with another token than this model", CHECKPOINT)


@torch.inference_mode()
def logits_differ(model: nn.Module, theirs: Any) -> float:
    """The largest difference between the logits of two models on random tokens, as a share of the largest logit."""
    cfg = ModelConfig.of(model.cfg)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, cfg.vocab_size, (ROWS, min(cfg.context_length, LONGEST)), generator=draw)
    device = next(model.parameters()).device
    ours, want = model(ids.to(device)).float().cpu(), theirs(ids).logits.float()
    return ((ours - want).abs().max() / want.abs().max()).item()


def sample_texts(tokenizer: Tokenizer, n: int) -> list[str]:
    """Texts to compare tokenizers on, always the same: tokens drawn at random and, unless it knows only some characters, any Unicode."""
    draw, special = random.Random(0), end_of_text(tokenizer)
    known = [i for i in range(tokenizer.n_vocab) if i != special]
    texts = [tokenizer.decode(draw.choices(known, k=draw.randrange(1, 60))) for _ in range(n)]
    if isinstance(tokenizer, CharTokenizer):
        return texts
    letters = [*map(chr, range(0x20, 0x7F)), *"\n\t\r '’éßжяअ中文日本語한국😀👩‍🚀\u00a0\u200b\u0301"]
    return [text if i % 2 else "".join(draw.choices(letters, k=draw.randrange(60))) for i, text in enumerate(texts)]
