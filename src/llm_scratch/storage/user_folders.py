"""Per-user folders: expand `~`, find the cache folder, and work without a home folder.

Containers and services often run under a user id without an account, or with a read-only home
folder. The cache is then a private folder in the system's temporary folder, and libraries that
expect a home folder or user name are pointed there.
Tests: tests/storage/test_user_folders.py.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llm_scratch.errors import RESOURCES, UserError, describe_error

LIBRARY_FOLDERS = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "HF_HOME": "huggingface",
}
"""Environment variable of a library's cache folder -> subfolder of our cache."""


class CacheFolder(NamedTuple):
    """The cache folder; `reason` is why the default is not used, "" if it is."""

    path: Path
    reason: str = ""


def expand_user(path: str | Path) -> Path:
    """Replace a leading `~` of a path by the home folder.

    Raises:
        UserError: the home folder is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: unknown home folder; write the full path, or set HOME") from None


def cache_folder() -> Path:
    """The folder for downloads and compiled programs.

    It is LLM_SCRATCH_CACHE, or `llm-scratch` in the system's cache folder.

    Raises:
        UserError: as `find_cache_folder`.
    """
    return find_cache_folder().path


def find_cache_folder() -> CacheFolder:
    """Find the cache folder, with the reason for the choice.

    Raises:
        UserError: LLM_SCRATCH_CACHE begins with an unknown home folder; or there is neither a
            default folder nor a usable temporary one (code 6).
    """
    if path := os.environ.get("LLM_SCRATCH_CACHE"):
        return CacheFolder(expand_user(path))
    default = _default_folder()
    if default is None:
        return CacheFolder(_private_folder(), "this user has no home folder")
    if not _usable(default):
        return CacheFolder(_private_folder(), f"{default} cannot be created")
    return CacheFolder(default)


def is_read_only(folder: Path) -> bool:
    """Whether a folder exists to which this user cannot write."""
    return folder.exists() and not os.access(folder, os.W_OK | os.X_OK)


def set_library_folders() -> None:
    """Point libraries that need a home folder or user name to our cache, if this user has none.

    Variables that are already set are unchanged.
    """
    default = _default_folder()
    if default is None:
        needed = set(LIBRARY_FOLDERS)
    elif not _usable(default):
        # models in a read-only home folder are still readable
        needed = set(LIBRARY_FOLDERS) - {"HF_HOME"}
    else:
        needed = set() if _has_user_name() else {"TORCHINDUCTOR_CACHE_DIR"}
    with suppress(UserError):  # without any folder the libraries use their own defaults
        for variable in needed - set(os.environ):
            os.environ[variable] = str(cache_folder() / LIBRARY_FOLDERS[variable])


def _default_folder() -> Path | None:
    """`llm-scratch` in the system's cache folder; None for a user without a home folder."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "llm-scratch"
    except RuntimeError:
        return None


def _has_user_name() -> bool:
    """Whether this user has a name, from which torch's compiler derives the name of its folder."""
    import getpass  # imported here to keep --help fast

    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False


def _usable(folder: Path) -> bool:
    """Whether a folder exists or can be created."""
    if os.path.exists(folder):
        return True
    existing = next(parent for parent in folder.absolute().parents if os.path.exists(parent))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A private folder of this user in the temporary folder, created if missing.

    Compiled programs in it are executed and its name is predictable, so it is used only if it
    belongs to this user and is not accessible to others.

    Raises:
        UserError: it belongs to another user or cannot be created (code 6).
    """
    import tempfile  # imported here to keep --help fast

    try:
        if not hasattr(os, "getuid"):  # on Windows the temporary folder is per user
            path = Path(tempfile.gettempdir()) / "llm-scratch"
            path.mkdir(exist_ok=True)
            return path
        path = Path(tempfile.gettempdir()) / f"llm-scratch-{os.getuid()}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as e:
        raise UserError(
            f"no folder for the cache ({describe_error(e)});"
            " set LLM_SCRATCH_CACHE to a writable folder",
            RESOURCES,
        ) from e
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(
            f"{path}: not a private folder of this user;"
            " remove it, or set LLM_SCRATCH_CACHE to another",
            RESOURCES,
        )
    return path
