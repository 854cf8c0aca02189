"""Find the files of OpenAI's GPT-2 release on this machine, or download them once.

OpenAI publishes no hashes. Those published by others are in `download.FILES`. For the rest the size
reported by the server is checked, then the CRC-32C of every tensor when the weights are read; the
vocabulary is validated when it is read. LLM_SCRATCH_MIRROR and LLM_SCRATCH_OFFLINE apply.
Tests: tests/interop/test_openai_files.py, against a server that fails.
Source: https://github.com/openai/gpt-2 (download_model.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from llm_scratch.errors import DATA, RESOURCES, UserError, unknown
from llm_scratch.storage.download import FILES, WITHOUT_NETWORK, Remote, get
from llm_scratch.storage.http_client import RequestError
from llm_scratch.storage.user_folders import expand_user

ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/models"
GPT2 = {"gpt2": "124M", "gpt2-medium": "355M", "gpt2-large": "774M", "gpt2-xl": "1558M"}
"""Common name of a size -> OpenAI's name."""
SIZES = tuple(GPT2.values())
NEEDED = (
    "hparams.json",
    "model.ckpt.index",
    "model.ckpt.data-00000-of-00001",
    "encoder.json",
    "vocab.bpe",
)
"""The files that are read. `checkpoint` and `model.ckpt.meta` are only for TensorFlow."""
WEIGHTS = NEEDED[:3]


def find_or_download(model_size: str = "124M", models_dir: str | Path = "gpt2") -> Path:
    """Return the folder of a size of GPT-2, downloading missing files.

    Searches `models_dir/<size>/`, then `gpt2/<size>/` in LLM_SCRATCH_DATA.

    Args:
        model_size: "124M", "355M", "774M" or "1558M" (0.5, 1.4, 3.1 and 6.2 GB).
        models_dir: parent folder for downloads.
    Raises:
        UserError: unknown size (code 2); download failed (code 3); disk full (code 6).
    """
    if model_size not in SIZES:
        raise unknown("model size", str(model_size), SIZES)
    folder = Path(models_dir) / model_size
    data = os.environ.get("LLM_SCRATCH_DATA")
    folders = [folder] + ([expand_user(data) / "gpt2" / model_size] if data else [])
    for candidate in folders:
        if all((candidate / name).is_file() for name in WEIGHTS):
            return candidate
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    try:
        # index and data last: if both exist, all files do
        for name in sorted(missing, key=lambda name: name in WEIGHTS[1:]):
            row = f"gpt2/{model_size}/{name}"
            get(folder / name, FILES.get(row, Remote((f"{ADDRESS}/{model_size}/{name}",))))
    except RequestError as e:
        raise _not_here(model_size, folder, missing, e) from e
    except OSError as e:
        raise UserError(
            f"cannot write into {folder}: {e.strerror or e};"
            " free space, or choose another models_dir",
            RESOURCES,
        ) from e
    return folder


def _not_here(model_size: str, folder: Path, missing: list[str], failed: RequestError) -> UserError:
    return UserError(
        f"GPT-2 {model_size} is not on this machine and cannot be downloaded: {failed}; put"
        f" {', '.join(missing)} from {ADDRESS}/{model_size}/ into {folder}, or into"
        f" gpt2/{model_size}/ of a folder that LLM_SCRATCH_DATA names"
        + (f". {WITHOUT_NETWORK}" if failed.unreachable else ""),
        DATA,
    )
