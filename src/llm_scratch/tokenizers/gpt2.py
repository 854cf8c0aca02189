"""GPT-2's pretrained tokenizer from tiktoken: 50,257 ids, trained by OpenAI on WebText.

Its two vocabulary files are read from a local cache or downloaded once, and verified by SHA-256.
Tests: tests/tokenizers/test_table.py.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.storage.user_folders import cache_folder, expand_user
from llm_scratch.tokenizers.bpe_files import GPT2_SHA256

if TYPE_CHECKING:
    import tiktoken

N_VOCAB = 50257
_ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
_FILES = [  # name, sha256, bytes
    ("vocab.bpe", GPT2_SHA256[0], 456_318),
    ("encoder.json", GPT2_SHA256[1], 1_042_301),
]


def load_gpt2() -> tiktoken.Encoding:
    """Load GPT-2's tokenizer: `tiktoken.get_encoding("gpt2")` with verified files.

    The files come from TIKTOKEN_CACHE_DIR,
    from `tiktoken/` in LLM_SCRATCH_DATA, or from a cache folder.

    Raises:
        UserError: the files are missing and cannot be downloaded (code 3).
    """
    import tiktoken

    from llm_scratch.storage.download import WITHOUT_NETWORK, DownloadError, fetch

    folder = _folder()
    try:
        for name, sha256, size in _FILES:
            folder = fetch(_cached_name(name), [_ADDRESS + name], sha256, size, folder).parent
    except DownloadError as e:
        raise UserError(
            f"GPT-2's vocabulary is not on this machine: {e.reason}; use --data.tokenizer bpe,"
            " which needs no download, or set TIKTOKEN_CACHE_DIR to a tiktoken cache copied from"
            " another machine (or copy it to tiktoken/ in LLM_SCRATCH_DATA)"
            + (f". {WITHOUT_NETWORK}" if e.unreachable else ""),
            DATA,
        ) from None
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding("gpt2")
    except OSError as e:
        raise UserError(
            f"cannot read GPT-2's vocabulary in {folder}: {describe_error(e)};"
            " set TIKTOKEN_CACHE_DIR to a folder with its files",
            DATA,
        ) from e
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def on_this_machine() -> Path | None:
    """The local folder with GPT-2's two files; None if `load_gpt2` would download them."""
    folder = _folder()
    return folder if _has_both(folder) else None


def _has_both(folder: Path) -> bool:
    return all((folder / _cached_name(name)).is_file() for name, _, _ in _FILES)


def _cached_name(name: str) -> str:
    """The file name in tiktoken's cache: the SHA-1 of the URL."""
    return hashlib.sha1((_ADDRESS + name).encode()).hexdigest()


def _folder() -> Path:
    """The tiktoken cache to use: TIKTOKEN_CACHE_DIR, or the first with both files, or our own."""
    if named := os.environ.get("TIKTOKEN_CACHE_DIR"):
        return Path(named)
    data = os.environ.get("LLM_SCRATCH_DATA")
    own = cache_folder() / "tiktoken"
    folders = [expand_user(data) / "tiktoken"] if data else []
    folders += [
        own,
        Path(
            os.environ.get("DATA_GYM_CACHE_DIR") or Path(tempfile.gettempdir()) / "data-gym-cache"
        ),
    ]
    return next((folder for folder in folders if _has_both(folder)), own)
