"""The files of OpenAI's GPT-2 release: found on this machine, or downloaded once.

OpenAI publishes no hashes of these files. Those that others have published are in `download.FILES`; of the rest the size that the server
announces is checked, then, when the weights are read, the CRC-32C that TensorFlow kept of every tensor; the vocabulary is checked as it
is read. LLM_SCRATCH_MIRROR and LLM_SCRATCH_OFFLINE hold here too.
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
"""What people call a size -> what OpenAI calls it."""
SIZES = tuple(GPT2.values())
NEEDED = ("hparams.json", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "encoder.json", "vocab.bpe")
"""What is read, the small ones first but for the vocabulary. `checkpoint` and `model.ckpt.meta` serve TensorFlow alone."""
WEIGHTS = NEEDED[:3]


def find_or_download(model_size: str = "124M", models_dir: str | Path = "gpt2") -> Path:
    """The folder that holds a size of GPT-2; what is not on this machine is downloaded.

    Looked for in `models_dir/<size>/`, then in `gpt2/<size>/` of LLM_SCRATCH_DATA; a folder that has the weights is taken as it is.

    Args:
        model_size: "124M", "355M", "774M" or "1558M" (0.5, 1.4, 3.1 and 6.2 GB).
        models_dir: where downloads go, into a folder of the size's name.
    Raises:
        UserError: no such size (code 2); it cannot be downloaded (code 3); the disk is full (code 6).
    """
    if model_size not in SIZES:
        raise unknown("model size", str(model_size), SIZES)
    folder = Path(models_dir) / model_size
    data = os.environ.get("LLM_SCRATCH_DATA")
    places = [folder] + ([expand_user(data) / "gpt2" / model_size] if data else [])
    for place in places:
        if all((place / name).is_file() for name in WEIGHTS):
            return place
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    try:
        for name in sorted(missing, key=lambda name: name in WEIGHTS[1:]):  # whoever sees index and data sees all
            row = f"gpt2/{model_size}/{name}"
            get(folder / name, FILES.get(row, Remote((f"{ADDRESS}/{model_size}/{name}",))))
    except RequestError as e:
        raise _not_here(model_size, folder, missing, e) from e
    except OSError as e:
        raise UserError(f"cannot write into {folder}: {e.strerror or e}; free space, or choose another models_dir", RESOURCES) from e
    return folder


def _not_here(model_size: str, folder: Path, missing: list[str], failed: RequestError) -> UserError:
    return UserError(
        f"GPT-2 {model_size} is not on this machine and cannot be downloaded: {failed}; put {', '.join(missing)} "
        f"from {ADDRESS}/{model_size}/ into {folder}, or into gpt2/{model_size}/ of a folder that LLM_SCRATCH_DATA names"
        + (f". {WITHOUT_NETWORK}" if failed.unreachable else ""),
        DATA,
    )
