"""Download models from the Hugging Face hub: `hf:org/name` or `hf:org/name@revision`.

Files are kept in the hub's own cache, shared with other programs. The hub's client downloads and
resumes; only files with expected names are requested, never those of a listing. HF_HUB_OFFLINE and
LLM_SCRATCH_OFFLINE disable downloads; HF_ENDPOINT is the URL of another hub, such as a mirror.
Tests: tests/interop/test_hub.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from llm_scratch.errors import CHECKPOINT, DATA, UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.interop.safetensors import INDEX, SINGLE, plain_name
from llm_scratch.storage import download, http_client
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.storage.user_folders import set_library_folders


def from_hub(name: str) -> Path:
    """Return the folder of a model in the hub's cache, downloading missing files.

    Args:
        name: "org/name", or "org/name@revision": a commit, branch or tag (default: main).
    Raises:
        UserError: the extra `hf` is not installed,
            or an invalid name (code 2); download failed (code 3).
    """
    name, at, revision = name.partition("@")
    if at and (not re.fullmatch(r"\w[\w./-]{0,200}", revision, re.ASCII) or ".." in revision):
        raise UserError(
            f"hf:{name[:80]}@{revision[:80]} is not a valid revision; expected a commit, branch or"
            " tag: hf:org/name@main"
        )
    if (
        not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII)
        or ".." in name
        or "--" in name
        or len(name) > 96
    ):
        raise UserError(
            f"hf:{name[:80]} is not a valid model name; expected hf:org/name, such as"
            " hf:openai-community/gpt2"
        )
    # before importing the hub's client, which without a home folder creates one named "~"
    set_library_folders()
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import ENDPOINT
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as e:
        raise UserError(f"hf:{name} needs the extra `hf`: {install_command('hf')}") from e

    local = download.offline() or not http_client.resolves(ENDPOINT)

    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision or None, local_files_only=local))

    def get_any(*files: str) -> Path | None:
        for file in files:
            try:
                return get(file)
            except LocalEntryNotFoundError:
                if not local:
                    raise
            except EntryNotFoundError:
                pass
        return None

    try:
        folder = get("config.json").parent
        if get_any(SINGLE) is None and get_any(INDEX) is not None:
            for file in sorted(
                set(
                    map(
                        str,
                        (read_json(folder / INDEX, CHECKPOINT).get("weight_map") or {}).values(),
                    )
                )
            ):
                get(plain_name(file, folder / INDEX))
        if get_any("tokenizer.json") is None:
            get_any("vocab.json")
            get_any("merges.txt")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as e:
        if download.offline():
            reason = "downloads are disabled and it is not in the hub's cache"
        elif isinstance(e, LocalEntryNotFoundError):
            reason = "the hub cannot be reached and it is not in the hub's cache"
        else:
            reason = describe_error(e)
        raise UserError(
            f"cannot download hf:{name}{at}{revision}: {reason}; see https://huggingface.co/{name},"
            " or use a folder with config.json, model.safetensors and tokenizer.json"
            + (f". {download.WITHOUT_NETWORK}" if local else ""),
            DATA,
        ) from e
    return folder
