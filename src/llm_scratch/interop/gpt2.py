"""Load GPT-2 by name: `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`; local, or downloaded once.

A local folder of OpenAI's release is used if there is one. Else `gpt2` is a file from Hugging Face,
verified by SHA-256. The three larger ones, whose SHA-256 is not published, are OpenAI's release,
whose tensors have checksums.
Tests: tests/interop/test_gpt2.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from llm_scratch.interop.hf import load_weights
from llm_scratch.interop.openai import gpt2_config, load_gpt2
from llm_scratch.interop.openai_files import GPT2, WEIGHTS, find_or_download
from llm_scratch.model import LanguageModel
from llm_scratch.storage import download
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer


def load_named(name: str) -> tuple[LanguageModel, Tokenizer]:
    """Load a GPT-2 by name, with its tokenizer.

    Raises:
        UserError: not on this machine and download failed (code 3);
            damaged (code 4); disk full (code 6).
    """
    size = GPT2[name]
    data = os.environ.get("LLM_SCRATCH_DATA")
    cache = download.cache_folder() / "gpt2"
    for folder in (Path("gpt2"), *([expand_user(data) / "gpt2"] if data else []), cache):
        if all((folder / size / file).is_file() for file in WEIGHTS):
            return load_gpt2(folder / size)
    if (file := f"{name}.safetensors") not in download.FILES:
        return load_gpt2(find_or_download(size, cache))
    path = download.fetch(file, *download.FILES[file])
    return load_weights(gpt2_config(size), [path], path, f"GPT-2 {size}"), TOKENIZERS["gpt2"](
        [], None
    )
