"""Download models from the Hugging Face hub: `hf:org/name` or `hf:org/name@revision`.

Files are kept in the hub's own cache, shared with other programs. The hub's client downloads and
resumes; only files with expected names are requested, never those of a listing. HF_HUB_OFFLINE and
LLM_SCRATCH_OFFLINE disable downloads; HF_ENDPOINT is the URL of another hub, such as a mirror.
Tests: tests/interop/test_hub.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llm_scratch.errors import CHECKPOINT, DATA, UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.interop.safetensors import INDEX, SINGLE, plain_name
from llm_scratch.storage import download
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.storage.user_folders import set_library_folders


def from_hub(name: str) -> Path:
    """Return the folder of a model in the hub's cache, downloading missing files.

    Args:
        name: "org/name", or "org/name@revision": a commit, branch or tag (default: main).
    Raises:
        UserError: the extra `hf` is not installed, or an invalid name (code 2); download failed
            (code 3).
    """
    name, at, revision = name.partition("@")
    if at:
        _check_revision(name, revision)
    _check_name(name)
    # before importing the hub's client, which without a home folder creates one named "~"
    set_library_folders()
    try:
        from huggingface_hub import constants
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )
    except ImportError as e:
        raise UserError(f"hf:{name} needs the extra `hf`: {install_command('hf')}") from e

    cause = download.why_cache_only(constants.ENDPOINT)
    try:
        return HubModel(name, revision or None, local=bool(cause)).folder()
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as e:
        if cause or isinstance(e, LocalEntryNotFoundError):
            reason = f"{cause or 'the hub cannot be reached'} and it is not in the hub's cache"
        else:
            reason = describe_error(e)
        raise UserError(
            f"cannot download hf:{name}{at}{revision}: {reason}; see https://huggingface.co/{name},"
            " or use a folder with config.json, model.safetensors and tokenizer.json"
            + (f". {download.WITHOUT_NETWORK}" if cause else ""),
            DATA,
        ) from e


def _check_revision(name: str, revision: str) -> None:
    if not re.fullmatch(r"\w[\w./-]{0,200}", revision, re.ASCII) or ".." in revision:
        raise UserError(
            f"hf:{name[:80]}@{revision[:80]} is not a valid revision;"
            " expected a commit, branch or tag: hf:org/name@main"
        )


def _check_name(name: str) -> None:
    is_name = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII)
    if not is_name or ".." in name or "--" in name or len(name) > 96:
        raise UserError(
            f"hf:{name[:80]} is not a valid model name;"
            " expected hf:org/name, such as hf:openai-community/gpt2"
        )


@dataclass(frozen=True)
class HubModel:
    """The files of a model: from the hub's cache, or downloaded unless `local`."""

    name: str
    revision: str | None
    local: bool

    def folder(self) -> Path:
        """The folder with config, weights and tokenizer."""
        folder = self.get("config.json").parent
        if self.get_if_present(SINGLE) is None and self.get_if_present(INDEX) is not None:
            weight_map = read_json(folder / INDEX, CHECKPOINT).get("weight_map") or {}
            for file in sorted(set(map(str, weight_map.values()))):
                self.get(plain_name(file, folder / INDEX))
        if self.get_if_present("tokenizer.json") is None:
            self.get_if_present("vocab.json")
            self.get_if_present("merges.txt")
        return folder

    def get(self, file: str) -> Path:
        """The path of a file."""
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(self.name, file, revision=self.revision, local_files_only=self.local)
        return Path(path)

    def get_if_present(self, file: str) -> Path | None:
        """The path of a file, or None if the model has none of that name."""
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return self.get(file)
        except LocalEntryNotFoundError:
            if not self.local:
                raise
        except EntryNotFoundError:
            pass
        return None
