"""GPT-2 by name: `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`; from this machine, or downloaded once.

A folder of OpenAI's release that is here is taken. Else `gpt2` is one file of Hugging Face's, pinned by its sha256, and the three larger
ones, of which nobody has told us a hash, are OpenAI's release, whose tensors carry checksums.
Tests: tests/interop/test_gpt2.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from llm_scratch.interop.hf import load_weights
from llm_scratch.interop.openai import gpt2_config, load_gpt2
from llm_scratch.interop.openai_files import GPT2, WEIGHTS, find_or_download
from llm_scratch.storage import download
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer


def load_named(name: str) -> tuple[nn.Module, Tokenizer]:
    """The model of that name, and GPT-2's tokenizer.

    Raises:
        UserError: it is not on this machine and cannot be downloaded (code 3), it is damaged (code 4), the disk is full (code 6).
    """
    size = GPT2[name]
    data = os.environ.get("LLM_SCRATCH_DATA")
    cache = download.cache_folder() / "gpt2"
    for place in (Path("gpt2"), *([expand_user(data) / "gpt2"] if data else []), cache):
        if all((place / size / file).is_file() for file in WEIGHTS):
            return load_gpt2(place / size)
    if (file := f"{name}.safetensors") not in download.FILES:
        return load_gpt2(find_or_download(size, cache))
    path = download.fetch(file, *download.FILES[file])
    return load_weights(gpt2_config(size), [path], path, f"GPT-2 {size}"), TOKENIZERS["gpt2"]([], None)
