"""GPT-2's vocabulary in our tokenizer, read from its two published files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from llm_scratch.tokenizers import ByteBPE
from llm_scratch.tokenizers.bpe_files import GPT2_SHA256

sys.path.append(str(Path(__file__).parent))  # for tokenizer_texts.py

# the names in tiktoken's cache: sha1 of the addresses of vocab.bpe and encoder.json
NAMES = ("6d1cbeee0f20b3d9449abfede4726ed8212e3aee", "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6")


@pytest.fixture(scope="session")
def gpt2_files(gpt2) -> tuple[Path, Path]:
    """vocab.bpe and encoder.json."""
    vocab_bpe, encoder_json = (Path(os.environ["TIKTOKEN_CACHE_DIR"]) / name for name in NAMES)
    return vocab_bpe, encoder_json


@pytest.fixture(scope="session")
def ours(gpt2_files) -> ByteBPE:
    """GPT-2's vocabulary, loaded by ByteBPE."""
    return ByteBPE.from_gpt2_files(*gpt2_files, sha256=GPT2_SHA256)


@pytest.fixture(scope="session")
def small(verdict) -> ByteBPE:
    """A tokenizer of 600 tokens, trained on the verdict."""
    return ByteBPE.train([verdict], 600)
