"""generation_config.json of Hugging Face: which tokens end a text, and how its authors sample.

The special tokens that end a text become the tokenizer's. Other such tokens, which a text may
contain, and the authors' sampling are named in a warning, because here the caller decides both.
Tests: tests/interop/test_hf_generation.py.
Source: https://huggingface.co/docs/transformers, GenerationConfig.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.tokenizers import ByteBPE, LibraryTokenizer, Tokenizer
from llm_scratch.tokenizers.special import end_ids

FILE = "generation_config.json"
SAMPLING = {
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": None,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
"""Setting -> transformers' default, which says nothing about a model."""
log = logging.getLogger(__name__)


def read_generation_config(folder: Path, tokenizer: Tokenizer) -> None:
    """Set a tokenizer's ends of text from the file of a folder, if there, and warn of the rest.

    Raises:
        UserError: the file is damaged (code 4).
    """
    path = folder / FILE
    if not path.is_file():
        return
    config = read_json(path, CHECKPOINT)
    ids = config.get("eos_token_id")
    ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(type(i) is int for i in ids):
        raise UserError(
            f"{path}: eos_token_id is {str(config.get('eos_token_id'))[:60]}; expected ids of"
            " tokens",
            CHECKPOINT,
        )
    ids = [i for i in ids if 0 <= i < tokenizer.n_vocab]  # GPT-2's default may be none here
    if isinstance(tokenizer, (ByteBPE, LibraryTokenizer)):
        names = {i: name for name, i in tokenizer.special_tokens.items()}
        known = [names[i] for i in dict.fromkeys(ids) if i in names]
        if known and tokenizer.end_of_text not in known:
            tokenizer.end_of_text = known[0]
        tokenizer.other_ends = tuple(name for name in known if name != tokenizer.end_of_text)
    ends = end_ids(tokenizer)
    if others := [i for i in ids if i not in ends]:
        texts = ", ".join(repr(tokenizer.decode([i])) for i in others)
        log.warning(
            "%s: texts of this model may also end with %s; add --stop to end there", path, texts
        )
    if chosen := _chosen(config):
        log.warning(
            "%s: its authors sample with %s; set the same to get their results", path, chosen
        )


def _chosen(config: dict[str, Any]) -> str:
    """The sampling settings that differ from transformers' defaults, for people."""
    differing = [
        f"{name} {value}"
        for name, default in SAMPLING.items()
        if isinstance(value := config.get(name), int | float) and value != default
    ]
    return ", ".join(differing)
