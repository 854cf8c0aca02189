"""Download files: verified by SHA-256, resumable, cached, atomic.

Search order: the folder LLM_SCRATCH_DATA, the user's cache folder, the internet. A download is
written to a hidden `.part` file, resumed after an interruption, and renamed only when size and
SHA-256 match.

    LLM_SCRATCH_DATA      a folder of existing files; searched first, never written to
    LLM_SCRATCH_CACHE     folder for downloads and compiled programs
                          (default: the system's cache folder)
    LLM_SCRATCH_MIRROR    URL that replaces every "https://host", e.g. http://mirror.lan/files
    LLM_SCRATCH_OFFLINE   1: disable downloads (so does HF_HUB_OFFLINE=1)

Every file in `FILES` has a SHA-256. A single request: http_client.py.
Tests: tests/storage/test_download.py, against a server with all failures known to us.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llm_scratch.errors import DATA, RESOURCES, UserError
from llm_scratch.formatting import format_bytes, format_duration
from llm_scratch.storage import http_client
from llm_scratch.storage.file_lock import wait_for_lock
from llm_scratch.storage.files import sha256_of
from llm_scratch.storage.http_client import RequestError
from llm_scratch.storage.user_folders import cache_folder, expand_user

MAX_ATTEMPTS = 5  # in a row without new data
REPORT_SECONDS = 10.0  # between two progress lines without a terminal
SHOW_PROGRESS = True
"""whether downloads report their progress; a command with `--quiet` turns it off"""
MIN_BAR_COLUMNS = 60  # width of a short bar, bytes, speed and time, without the name
log = logging.getLogger(__name__)


class Remote(NamedTuple):
    """URLs of a file, and its expected SHA-256 and size; None: not published, so not verified."""

    urls: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None  # bytes

    def __str__(self) -> str:
        size = "of any size" if self.size is None else f"{self.size:,} bytes"
        return size if self.sha256 is None else f"{size} with sha256 {self.sha256}"


FILES: dict[str, Remote] = {
    "the-verdict.txt": Remote(
        (
            "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",
        ),
        "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        20_479,
    ),
    "tinyshakespeare.txt": Remote(
        (
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
    ),
    "gpt2.safetensors": Remote(
        (
            "https://huggingface.co/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors",
        ),
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548_105_171,
    ),
    "gpt2/124M/model.ckpt.data-00000-of-00001": Remote(
        (
            "https://openaipublic.blob.core.windows.net/gpt-2/models/124M/model.ckpt.data-00000-of-00001",
        ),
        "2060c885360cc0cf41d7a6dbc4d24b5127aae20260c8b5ae521b5a6578407118",
        497_759_232,
    ),
    "gpt2/124M/vocab.bpe": Remote(
        ("https://openaipublic.blob.core.windows.net/gpt-2/models/124M/vocab.bpe",),
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        456_318,
    ),
    "gpt2/124M/encoder.json": Remote(
        ("https://openaipublic.blob.core.windows.net/gpt-2/models/124M/encoder.json",),
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        1_042_301,
    ),
}


WITHOUT_NETWORK = (
    "Without a network you can use:"
    " --data.source stories, your own texts (`train text FILE`), the models in runs/."
)


class DownloadError(UserError):
    """A file that cannot be downloaded, with how to copy it here.

    Args:
        name: the file.
        failed: why not; `reason` and `unreachable` are taken from it.
    """

    def __init__(self, name: str, failed: RequestError) -> None:
        self.reason = str(failed)
        self.unreachable = failed.unreachable
        remedy = f"download it elsewhere, save it as FOLDER/{name} and set LLM_SCRATCH_DATA=FOLDER"
        rest = f". {WITHOUT_NETWORK}" if failed.unreachable else ""
        super().__init__(f"cannot download {name}: {self.reason}; {remedy}{rest}", DATA)


def offline() -> bool:
    """Whether the user disabled network access."""
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("LLM_SCRATCH_OFFLINE", "HF_HUB_OFFLINE")
    )


def why_cache_only(url: str) -> str:
    """Why only files in a library's cache can be used; "" if `url` can be requested.

    For libraries that would otherwise retry many times.
    """
    if offline():
        return "downloads are disabled"
    return "" if http_client.resolves(url) else "the hub cannot be reached"


def fetch(
    name: str,
    urls: Sequence[str],
    sha256: str | None,
    size: int | None,
    folder: str | Path | None = None,
) -> Path:
    """Return the path of a verified local copy of a file, downloading it if necessary.

    Usage: `fetch(name, *FILES[name])`.

    Args:
        name: file name in LLM_SCRATCH_DATA and in the cache.
        urls: http(s) URLs, the best first; each attempt uses the next.
        sha256: expected hash, in hex.
        size: expected bytes.
        folder: folder for the download (default: `cache_folder()`).
    Raises:
        UserError: download failed,
            or the copy in LLM_SCRATCH_DATA differs (code 3); disk full (code 6).
    """
    remote = Remote(tuple(urls), sha256, size)
    if data_folder := os.environ.get("LLM_SCRATCH_DATA"):
        own = expand_user(data_folder) / name
        if not own.parent.is_dir():
            raise UserError(
                f"LLM_SCRATCH_DATA={data_folder} is not a folder; create it or unset the variable",
                DATA,
            )
        if own.exists():
            if _matches(own, remote):
                return own
            raise UserError(
                f"{own} differs from the expected file ({remote}); replace or remove it", DATA
            )
    path = Path(folder or cache_folder()) / name
    try:
        return get(path, remote)
    except RequestError as e:
        raise DownloadError(name, e) from e
    except OSError as e:
        raise UserError(
            f"cannot write {path}: {e.strerror or e};"
            " free disk space, or set LLM_SCRATCH_CACHE to another folder",
            RESOURCES,
        ) from e


def get(path: Path, remote: Remote) -> Path:
    """Download a file to `path` atomically, unless it is there already.

    Raises:
        RequestError: the download failed.
        OSError: the file cannot be written.
    """
    if _matches(path, remote):
        return path
    if offline():
        reason = "downloads are disabled (LLM_SCRATCH_OFFLINE or HF_HUB_OFFLINE)"
        raise RequestError(f"{reason}, so not from {remote.urls[0]}", unreachable=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent):
        if not _matches(path, remote):
            _download(path, remote)
    return path


def _matches(path: Path, remote: Remote) -> bool:
    """Whether the file at `path` has the expected size and SHA-256, as far as these are known."""
    if not path.is_file() or remote.size not in (None, path.stat().st_size):
        return False
    return remote.sha256 is None or sha256_of(path) == remote.sha256


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock a folder, so that a second process waits and then finds the file.

    Where locks are not supported, only the SHA-256 protects the file.
    """
    if sys.platform == "win32":  # cannot open folders
        number = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    else:
        number = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            wait_for_lock(number)
        yield
    finally:
        os.close(number)


def _download(path: Path, remote: Remote) -> None:
    """Download with retries, until done or `MAX_ATTEMPTS` attempts in a row brought no new data."""
    part = path.with_name(f".{path.name}.part")
    urls = [_from_mirror(url) for url in remote.urls]
    etags: dict[str, str] = {}
    attempts = 0
    furthest = _size(part)
    initial = furthest
    if remote.size is not None:
        _check_space(part, remote.size - furthest)
    with _progress(path.name) as show:
        while True:
            url = urls.pop(0)
            try:
                _attempt(part, url, remote, etags, show)
                os.replace(part, path)
                return
            except RequestError as e:
                failed = RequestError(f"{e} ({url})", unreachable=e.unreachable)
                # without a network retrying is useless, unless it failed during the download
                hopeless = e.permanent or (e.unreachable and furthest == initial)
                urls += [] if hopeless else [url]
                if e.restart or not _size(part):
                    part.unlink(missing_ok=True)
            except OSError:
                part.unlink(missing_ok=True)  # frees the space of a full disk
                raise
            has_new_data = _size(part) >= furthest + http_client.CHUNK
            attempts = 0 if has_new_data else attempts + 1
            furthest = max(furthest, _size(part))
            if not urls or attempts >= MAX_ATTEMPTS:
                raise failed
            # seconds; random, to spread out clients
            pause = random.uniform(1, min(30, 2 ** max(1, attempts)))
            log.warning("%s: %s; retrying in %.0f s", path.name, failed, pause)
            sleep(pause)


def _check_space(part: Path, remaining: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < remaining:
        raise OSError(errno.ENOSPC, f"{remaining:,} bytes needed and {free:,} free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from_mirror(url: str) -> str:
    """Replace scheme and host of a URL by LLM_SCRATCH_MIRROR, if it is set."""
    mirror = os.environ.get("LLM_SCRATCH_MIRROR")
    if mirror:
        return mirror.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl()
    return url


def _attempt(
    part: Path, url: str, remote: Remote, etags: dict[str, str], show: Callable[[int, int], Any]
) -> None:
    """Make one attempt to complete and verify `part`; raises RequestError."""
    with part.open("ab") as file:
        if remote.size is None or file.tell() < remote.size:
            response, total = http_client.open_range(url, file.tell(), remote.size, etags)
            with response:
                # from the first byte on: no range support, or a new version
                if response.status == 200:
                    file.truncate(file.seek(0))
                _check_space(part, total - file.tell())
                while piece := http_client.read_chunk(response):
                    if file.tell() + len(piece) > total:
                        raise RequestError(f"wrong length: more than {total:,} bytes", restart=True)
                    file.write(piece)
                    show(file.tell(), total)
            if file.tell() < total:
                raise RequestError(f"the connection closed at {file.tell():,} of {total:,} bytes")
        file.flush()
        os.fsync(file.fileno())
    if not _matches(part, remote):
        raise RequestError("wrong content: the sha256 differs", restart=True)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], Any]]:
    """Yield a function of (bytes done, bytes total) that draws a bar, or prints lines."""
    if sys.stderr is None or not SHOW_PROGRESS:  # None under pythonw
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

    class Progressed(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text(_progress_text(task.completed, task.total or 0, task.speed or 0))

    console = Console(stderr=True)
    if not console.is_terminal or console.width < len(name) + MIN_BAR_COLUMNS:
        yield ProgressLog(name)
        return
    with Progress(
        "{task.description}",
        BarColumn(None),
        Progressed(Column(no_wrap=True)),
        console=console,
        transient=True,
        expand=True,
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class ProgressLog:
    """Print a line every ten seconds: progress, speed and remaining time of a download."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reported_at = monotonic()
        self.reported_bytes = -1

    def __call__(self, done: int, total: int) -> None:
        """Report `done` of `total` bytes, if a line is due."""
        now = monotonic()
        if not 0 <= self.reported_bytes <= done:  # first call, or restarted
            self.reported_bytes = done
        if now - self.reported_at >= REPORT_SECONDS:
            speed = (done - self.reported_bytes) / (now - self.reported_at)
            print(f"{self.name}: {_progress_text(done, total, speed)}", file=sys.stderr, flush=True)
            self.reported_at = now
            self.reported_bytes = done


def _progress_text(done: float, total: float, speed: float) -> str:
    """Bytes, speed and time left: "76.3 MiB of 523 MiB, 2.38 MiB/s, 3 min 7 s left"."""
    eta = f"{format_duration((total - done) / speed)} left" if speed else "ETA unknown"
    return f"{format_bytes(done)} of {format_bytes(total)}, {format_bytes(speed)}/s, {eta}"
