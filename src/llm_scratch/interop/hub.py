"""Models on the Hugging Face hub: `hf:org/name` or `hf:org/name@revision`, kept in the hub's own cache, which other programs share.

The hub's client does the work and knows how to resume; only files of the names that we ask for are got, never what a listing says.
HF_HUB_OFFLINE and LLM_SCRATCH_OFFLINE keep it from the network; HF_ENDPOINT is the address of another hub, such as a mirror of it.
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
    """The folder of a model of the Hugging Face hub, in the hub's own cache; what is not there is downloaded.

    Args:
        name: "org/name", or "org/name@revision": a commit, a branch or a tag; main unless given.
    Raises:
        UserError: the extra `hf` is not installed or the name is none (code 2), it cannot be had (code 3).
    """
    name, at, revision = name.partition("@")
    if at and (not re.fullmatch(r"\w[\w./-]{0,200}", revision, re.ASCII) or ".." in revision):
        raise UserError(f"hf:{name[:80]}@{revision[:80]} names no revision; expected a commit, a branch or a tag: hf:org/name@main")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) or ".." in name or "--" in name or len(name) > 96:
        raise UserError(f"hf:{name[:80]} names no model; expected hf:org/name, such as hf:openai-community/gpt2")
    set_library_folders()  # before the hub's client is imported, which takes a home folder that it does not find for a folder named "~"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.constants import ENDPOINT
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
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
            for file in sorted(set(map(str, (read_json(folder / INDEX, CHECKPOINT).get("weight_map") or {}).values()))):
                get(plain_name(file, folder / INDEX))
        if get_any("tokenizer.json") is None:
            get_any("vocab.json")
            get_any("merges.txt")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as e:
        if download.offline():
            why = "the network is switched off and it is not in the hub's cache"
        elif isinstance(e, LocalEntryNotFoundError):
            why = "the hub cannot be reached and it is not in the hub's cache"
        else:
            why = describe_error(e)
        raise UserError(
            f"cannot get hf:{name}{at}{revision}: {why}; see https://huggingface.co/{name}, or give a folder that has config.json, "
            "model.safetensors and tokenizer.json" + (f". {download.WITHOUT_NETWORK}" if local else ""),
            DATA,
        ) from e
    return folder
