"""Where the files of this user go: `~` in paths, the cache folder, and what replaces both for a user without a home folder.

Containers and services often run under a number that has no account, or with a home folder that cannot be written. The cache is then
a private folder in the system's temporary one, and libraries that expect a home folder or a user name are pointed there.
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
"""Environment variables by which libraries are told where to keep files, and the folder in our cache that each gets."""


class CacheFolder(NamedTuple):
    """The cache folder; `reason` says why it is not the usual one, "" if it is."""

    path: Path
    reason: str = ""


def expand_user(path: str | Path) -> Path:
    """A path with a leading `~` replaced by the home folder.

    Raises:
        UserError: the home folder is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder; write the path in full, or set HOME") from None


def cache_folder() -> Path:
    """The folder for downloads and compiled programs: LLM_SCRATCH_CACHE, or `llm-scratch` in the system's cache folder.

    Raises:
        UserError: as `find_cache_folder`.
    """
    return find_cache_folder().path


def find_cache_folder() -> CacheFolder:
    """The cache folder and why it is that one.

    Raises:
        UserError: LLM_SCRATCH_CACHE begins with an unknown home folder; or there is no usual folder, and the temporary one cannot
            be used (code 6).
    """
    if named := os.environ.get("LLM_SCRATCH_CACHE"):
        return CacheFolder(expand_user(named))
    usual = _usual_folder()
    if usual is None:
        return CacheFolder(_private_folder(), "this user has no home folder")
    if not _usable(usual):
        return CacheFolder(_private_folder(), f"{usual} cannot be made")
    return CacheFolder(usual)


def set_library_folders() -> None:
    """Point libraries that need a home folder or a user name at our cache, if this user has none; a variable that is set stays."""
    usual = _usual_folder()
    if usual is None:
        needed = set(LIBRARY_FOLDERS)
    elif not _usable(usual):
        needed = set(LIBRARY_FOLDERS) - {"HF_HOME"}  # models that are in a home folder which cannot be written can still be read
    else:
        needed = set() if _has_user_name() else {"TORCHINDUCTOR_CACHE_DIR"}
    with suppress(UserError):  # without any folder the libraries do what they do by themselves
        for variable in needed - set(os.environ):
            os.environ[variable] = str(cache_folder() / LIBRARY_FOLDERS[variable])


def _usual_folder() -> Path | None:
    """`llm-scratch` in the folder where this system keeps caches; None for a user without a home folder."""
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
    """Whether this user has a name, by which torch's compiler names its folder."""
    import getpass  # here, so that --help does not load it

    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False


def _usable(folder: Path) -> bool:
    """Whether a folder is there, or can be made."""
    if os.path.exists(folder):
        return True
    there = next(parent for parent in folder.absolute().parents if os.path.exists(parent))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _private_folder() -> Path:
    """A folder of this user's own below the temporary one, made if it is missing.

    Its name can be guessed, so it is used only if it belongs to this user and is closed to others: what is compiled there is run.

    Raises:
        UserError: it belongs to somebody else or cannot be made (code 6).
    """
    import tempfile  # here, so that --help does not load it

    try:
        if not hasattr(os, "getuid"):  # Windows gives each user a temporary folder of their own
            path = Path(tempfile.gettempdir()) / "llm-scratch"
            path.mkdir(exist_ok=True)
            return path
        path = Path(tempfile.gettempdir()) / f"llm-scratch-{os.getuid()}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
    except OSError as e:
        raise UserError(
            f"no folder for the cache ({describe_error(e)}); set LLM_SCRATCH_CACHE to one that can be written", RESOURCES
        ) from e
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(f"{path}: not a private folder of this user; remove it, or set LLM_SCRATCH_CACHE to another", RESOURCES)
    return path
