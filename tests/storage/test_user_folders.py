"""A user's cache folder is the system's, or a private temporary one without a home."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from llm_scratch.errors import RESOURCES, USAGE, UserError
from llm_scratch.storage import user_folders
from llm_scratch.storage.user_folders import (
    LIBRARY_FOLDERS,
    cache_folder,
    expand_user,
    find_cache_folder,
    set_library_folders,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no user ids and no folder modes")


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """Set a home and a temporary folder, and unset the variables that name others."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("LLM_SCRATCH_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA", *LIBRARY_FOLDERS):
        os.environ.pop(name, None)
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(tmp_path)
    os.environ["USER"] = "me"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()


@pytest.fixture
def no_home(monkeypatch):
    """A user number without an account, as a container may run under."""
    import pwd

    def unknown(*_):
        raise KeyError("uid not found")

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        os.environ.pop(name, None)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    return Path(tempfile.gettempdir()) / f"llm-scratch-{os.getuid()}"


@pytest.mark.parametrize(
    ("platform", "env", "want"),
    [
        ("linux", {"XDG_CACHE_HOME": "{}/x"}, "{}/x/llm-scratch"),
        ("linux", {}, "{}/.cache/llm-scratch"),
        ("darwin", {}, "{}/Library/Caches/llm-scratch"),
        ("win32", {"LOCALAPPDATA": "{}/Local"}, "{}/Local/llm-scratch"),
        ("linux", {"LLM_SCRATCH_CACHE": "~/mine"}, "{}/mine"),
    ],
)
def test_cache_folder_is_the_systems(platform, env, want, tmp_path, monkeypatch):
    os.environ.update({name: value.format(tmp_path) for name, value in env.items()})
    monkeypatch.setattr(sys, "platform", platform)
    assert find_cache_folder() == (Path(want.format(tmp_path)), "")
    assert not Path(want.format(tmp_path)).exists(), "the call creates no folder"


@posix
def test_cache_folder_is_a_private_temporary_one_without_a_home(no_home):
    assert find_cache_folder() == (no_home, "this user has no home folder")
    assert cache_folder() == no_home
    assert no_home.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("env", ["LLM_SCRATCH_CACHE", "XDG_CACHE_HOME"])
def test_cache_folder_of_the_environment_needs_no_home(env, no_home, tmp_path):
    os.environ[env] = str(tmp_path / "c")
    assert cache_folder().is_relative_to(tmp_path / "c")
    assert not no_home.exists()


@posix
def test_cache_folder_is_a_temporary_one_when_home_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) != tmp_path
    )  # root may write everywhere
    private = Path(tempfile.gettempdir()) / f"llm-scratch-{os.getuid()}"
    usual = tmp_path / ".cache" / "llm-scratch"
    monkeypatch.setattr(sys, "platform", "linux")
    assert find_cache_folder() == (private, f"{usual} cannot be created")
    usual.mkdir(parents=True)
    assert find_cache_folder() == (
        usual,
        "",
    ), "an existing cache is read even if it is not writable"


@posix
@pytest.mark.parametrize("wrong", ["a link", "open to others", "of another user", "a file"])
def test_cache_folder_rejects_a_temporary_folder_of_another_user(
    wrong, no_home, tmp_path, monkeypatch
):
    if wrong == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        no_home.symlink_to(tmp_path / "elsewhere")
    elif wrong == "a file":
        no_home.touch(mode=0o700)
    else:
        no_home.mkdir(mode=0o700)
    if wrong == "open to others":
        no_home.chmod(0o770)
    if wrong == "of another user":
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        no_home.rename(no_home.with_name(f"llm-scratch-{uid + 1}"))
    with pytest.raises(
        UserError, match="not a private folder of this user; remove it, or set LLM_SCRATCH_CACHE"
    ) as error:
        cache_folder()
    assert error.value.code == RESOURCES


@posix
def test_cache_folder_error_names_the_variable(no_home, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent/tmp")
    with pytest.raises(
        UserError, match="no folder for the cache .*; set LLM_SCRATCH_CACHE to a writable folder"
    ):
        cache_folder()
    set_library_folders()  # the libraries do what they can
    assert not set(LIBRARY_FOLDERS) & set(os.environ)


@posix
def test_expand_user_rejects_an_unknown_user(tmp_path):
    assert expand_user("~/a") == tmp_path / "a"
    assert expand_user("b") == Path("b")
    with pytest.raises(
        UserError, match="~nobody-of-that-name/x: unknown home folder; write the full path"
    ) as error:
        expand_user("~nobody-of-that-name/x")
    assert error.value.code == USAGE


@posix
def test_libraries_get_cache_folders_only_when_there_is_no_home(no_home):
    os.environ["HF_HOME"] = "/models"
    set_library_folders()
    for name, folder in LIBRARY_FOLDERS.items():
        assert os.environ[name] == ("/models" if name == "HF_HOME" else str(no_home / folder))


@posix
def test_models_in_a_home_folder_that_cannot_be_written_are_still_found(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    set_library_folders()
    assert set(LIBRARY_FOLDERS) & set(os.environ) == set(LIBRARY_FOLDERS) - {"HF_HOME"}


def test_library_folders_are_unchanged_with_a_home_and_a_user_name():
    set_library_folders()
    assert not set(LIBRARY_FOLDERS) & set(os.environ)


@posix
def test_torch_compile_gets_a_folder_without_a_user_name(tmp_path, monkeypatch):
    monkeypatch.setattr(user_folders, "_has_user_name", lambda: False)
    set_library_folders()
    assert set(LIBRARY_FOLDERS) & set(os.environ) == {"TORCHINDUCTOR_CACHE_DIR"}
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache_folder() / "inductor")
