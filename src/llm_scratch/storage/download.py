"""Files from the internet: pinned by their sha256, looked for on this machine first, and never half there.

Look order: the folder that LLM_SCRATCH_DATA names, the cache folder of the user, the internet. What comes from the internet grows
in a hidden `.part` file, is continued after a break, and gets its name only when size and sha256 are right.

    LLM_SCRATCH_DATA      a folder of files you have already; looked in first, never written to
    LLM_SCRATCH_CACHE     where downloads and compiled programs are kept, instead of the system's cache folder
    LLM_SCRATCH_MIRROR    an address that stands in for every "https://host", e.g. http://mirror.lan/files
    LLM_SCRATCH_OFFLINE   1: never ask the network (so does HF_HUB_OFFLINE=1)

Every row of `FILES` has a sha256. How one answer is asked for: web.py.
Tests: tests/storage/test_download.py, against a server that fails in every way we know.
"""

from __future__ import annotations

import errno
import hashlib
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
from llm_scratch.formatting import format_duration
from llm_scratch.storage import http_client
from llm_scratch.storage.file_lock import wait_for_lock
from llm_scratch.storage.http_client import RequestError
from llm_scratch.storage.user_folders import cache_folder, expand_user

MAX_ATTEMPTS = 5  # in a row that bring nothing new
REPORT_SECONDS = 10.0  # seconds between two lines of progress where there is no terminal
MIN_BAR_COLUMNS = 50  # beside the name, for a short bar, sizes, speed and time
log = logging.getLogger(__name__)


class Remote(NamedTuple):
    """Where a file can be had, and how it is known to be the right one; None: nobody has told us, and the server's word is taken."""

    urls: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None  # bytes

    def __str__(self) -> str:
        size = "of any size" if self.size is None else f"{self.size:,} bytes"
        return size if self.sha256 is None else f"{size} with sha256 {self.sha256}"


FILES: dict[str, Remote] = {
    "the-verdict.txt": Remote(
        ("https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt",),
        "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        20_479,
    ),
    "tinyshakespeare.txt": Remote(
        ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        1_115_394,
    ),
    "gpt2.safetensors": Remote(
        ("https://huggingface.co/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors",),
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548_105_171,
    ),
    "gpt2/124M/model.ckpt.data-00000-of-00001": Remote(
        ("https://openaipublic.blob.core.windows.net/gpt-2/models/124M/model.ckpt.data-00000-of-00001",),
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


WITHOUT_NETWORK = "What works without a network: --data.source stories, your own texts (`train text FILE`), the models in runs/."


class DownloadError(UserError):
    """A file that cannot be downloaded, and how to bring it here.

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
    """Whether the user forbids the network."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in ("LLM_SCRATCH_OFFLINE", "HF_HUB_OFFLINE"))


def fetch(name: str, urls: Sequence[str], sha256: str | None, size: int | None, folder: str | Path | None = None) -> Path:
    """The path of a file that is certainly the right one; downloaded if this machine has none. `fetch(name, *FILES[name])`.

    Args:
        name: what the file is called in LLM_SCRATCH_DATA and in the cache.
        urls: http(s) addresses, the best first; each try takes the next.
        sha256, size: what pins it, in hex digits and in bytes.
        folder: where to keep it; None is `cache_folder()`.
    Raises:
        UserError: it cannot be had, or the user's own copy is another file (code 3); no space for it (code 6).
    """
    remote = Remote(tuple(urls), sha256, size)
    if given := os.environ.get("LLM_SCRATCH_DATA"):
        own = expand_user(given) / name
        if not own.parent.is_dir():
            raise UserError(f"LLM_SCRATCH_DATA={given} is not a folder; make it or unset the variable", DATA)
        if own.exists():
            if _matches(own, remote):
                return own
            raise UserError(f"{own} is another file; expected {remote}: replace or remove it", DATA)
    path = Path(folder or cache_folder()) / name
    try:
        return get(path, remote)
    except RequestError as e:
        raise DownloadError(name, e) from e
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; free space, or set LLM_SCRATCH_CACHE to another folder", RESOURCES) from e


def get(path: Path, remote: Remote) -> Path:
    """Bring a file to `path`, if it does not stand there already; it appears whole and right, or not at all.

    Raises:
        Failed: it cannot be had; says why.
        OSError: it cannot be written.
    """
    if _matches(path, remote):
        return path
    if offline():
        reason = "the network is switched off (LLM_SCRATCH_OFFLINE or HF_HUB_OFFLINE)"
        raise RequestError(f"{reason}, so not from {remote.urls[0]}", unreachable=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent):
        if not _matches(path, remote):
            _download(path, remote)
    return path


def _matches(path: Path, remote: Remote) -> bool:
    """Whether the file at `path` is the right one, as far as that is known."""
    if not path.is_file() or remote.size not in (None, path.stat().st_size):
        return False
    if remote.sha256 is None:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lock the folder, so that a second process waits and then finds the file; without locks, the sha256 alone protects it."""
    if sys.platform == "win32":  # which opens no folders
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
    """Try, wait and try again, until the right file stands at `path` or `TRIES` tries in a row brought nothing new."""
    part = path.with_name(f".{path.name}.part")
    urls, etags = [_from_mirror(url) for url in remote.urls], dict[str, str]()
    tries, furthest = 0, _size(part)
    begun_at = furthest
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
                # without a network a second try is no better, unless the network broke while it was used
                hopeless = e.for_good or (e.unreachable and furthest == begun_at)
                urls += [] if hopeless else [url]
                if e.start_over or not _size(part):
                    part.unlink(missing_ok=True)
            except OSError:
                part.unlink(missing_ok=True)  # a full disk gets its space back
                raise
            new = _size(part) >= furthest + http_client.CHUNK
            tries, furthest = (0 if new else tries + 1), max(furthest, _size(part))
            if not urls or tries >= MAX_ATTEMPTS:
                raise failed
            pause = random.uniform(1, min(30, 2 ** max(1, tries)))  # seconds; drawn, so that many machines do not come back all at once
            log.warning("%s: %s; next try in %.0f s", path.name, failed, pause)
            sleep(pause)


def _check_space(part: Path, to_come: int) -> None:
    if (free := shutil.disk_usage(part.parent).free) < to_come:
        raise OSError(errno.ENOSPC, f"{to_come:,} bytes are to come and {free:,} are free")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from_mirror(url: str) -> str:
    """The address at the user's mirror, if there is one."""
    mirror = os.environ.get("LLM_SCRATCH_MIRROR")
    return mirror.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl() if mirror else url


def _attempt(part: Path, url: str, remote: Remote, etags: dict[str, str], show: Callable[[int, int], Any]) -> None:
    """Bring `part` from where it stands to the whole, right file, or raise `Failed`."""
    with part.open("ab") as file:
        if remote.size is None or file.tell() < remote.size:
            answer, total = http_client.open_range(url, file.tell(), remote.size, etags)
            with answer:
                if answer.status == 200:  # from the first byte on: the server keeps no ranges, or has a new version
                    file.truncate(file.seek(0))
                _check_space(part, total - file.tell())
                while piece := http_client.read_chunk(answer):
                    if file.tell() + len(piece) > total:
                        raise RequestError(f"wrong length: more than {total:,} bytes", start_over=True)
                    file.write(piece)
                    show(file.tell(), total)
            if file.tell() < total:
                raise RequestError(f"the connection broke at {file.tell():,} of {total:,} bytes")
        file.flush()
        os.fsync(file.fileno())
    if not _matches(part, remote):
        raise RequestError("wrong bytes: the sha256 differs", start_over=True)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], Any]]:
    """A function to call with the bytes that are here and of how many; draws a bar where somebody watches, and writes lines elsewhere."""
    if sys.stderr is None:  # as under pythonw
        yield lambda here, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TransferSpeedColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        max_refresh = 0.5

        def render(self, task: Task) -> Text:
            return Text("" if task.time_remaining is None else f"{format_duration(task.time_remaining)} left")

    console = Console(stderr=True)
    if not console.is_terminal or console.width < len(name) + MIN_BAR_COLUMNS:
        yield ProgressLog(name)
        return
    columns = ("{task.description}", BarColumn(None), DownloadColumn(), TransferSpeedColumn(), TimeLeft())
    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


class ProgressLog:
    """A line every ten seconds for a log: how much of a file is here, how fast it comes, how long the rest will take."""

    def __init__(self, name: str) -> None:
        self.name, self.said, self.before = name, monotonic(), -1

    def __call__(self, here: int, total: int) -> None:
        """The bytes that are here now, and of how many."""
        now = monotonic()
        if not 0 <= self.before <= here:  # the beginning, or begun anew
            self.before = here
        if now - self.said >= REPORT_SECONDS:
            speed = (here - self.before) / (now - self.said)
            left = f"{format_duration((total - here) / speed)} left" if speed else "time left unknown"
            done = f"{here / 1e6:,.1f} of {total / 1e6:,.1f} MB ({here / total:.0%})"
            print(f"{self.name}: {done}, {speed / 1e6:.1f} MB/s, {left}", file=sys.stderr, flush=True)
            self.said, self.before = now, here
