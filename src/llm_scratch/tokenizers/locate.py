"""Open a tokenizer by path: a file, a folder, a run directory or one of its checkpoints.

Tests: tests/tokenizers/test_locate.py.
"""

from __future__ import annotations

from pathlib import Path

from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import Tokenizer, load_tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE


def open_tokenizer(where: str | Path) -> Tokenizer:
    """Open the tokenizer at a path.

    Args:
        where: a tokenizer.json of this project or of Hugging Face (byte-level BPE) under any name;
            a folder with one, or with GPT-2's vocab.json and merges.txt; a run directory, whose
            latest checkpoint is used.
    Raises:
        UserError: missing, damaged, or of an unsupported type (code 3).
    """
    path = expand_user(where)
    latest = path / "ckpt" / "latest"
    if latest.is_file():
        path = path / "ckpt" / latest.read_text(encoding="utf-8").strip()
    if (
        not (path / "tokenizer.json").is_file()
        and (path / "vocab.json").is_file()
        and (path / "merges.txt").is_file()
    ):
        return ByteBPE.from_gpt2_files(path / "merges.txt", path / "vocab.json")
    return load_tokenizer(path)
