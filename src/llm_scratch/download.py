"""Files from the internet: pinned by their sha256, looked for on this machine first, and never half there.

Look order: the folder that LLM_SCRATCH_DATA names, the cache folder of the user, the internet. What comes from the internet grows
in a hidden `.part` file, is continued after a break, and gets its name only when size and sha256 are right.

    LLM_SCRATCH_DATA      a folder of files you have already; looked in first, never written to
    LLM_SCRATCH_CACHE     where downloads are kept, instead of the system's cache folder
    LLM_SCRATCH_MIRROR    an address that stands in for every "https://host", e.g. http://mirror.lan/files
    LLM_SCRATCH_OFFLINE   1: never ask the network (so does HF_HUB_OFFLINE=1)

Proof: tests/test_download.py, against a server that fails in every way we know.
Source: resuming, RFC 9110, sections 13.1.5 (If-Range) and 14 (Range), https://www.rfc-editor.org/rfc/rfc9110.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import ipaddress
import logging
import os
import random
import re
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llm_scratch.errors import DATA, RESOURCES, UserError

TRIES = 5  # in a row that bring nothing new
TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 16  # bytes
log = logging.getLogger(__name__)


class Remote(NamedTuple):
    """Where a file can be had, and how it is known to be the right one."""

    urls: tuple[str, ...]
    sha256: str
    size: int  # bytes


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
}


def cache_folder() -> Path:
    """The folder where downloads are kept: LLM_SCRATCH_CACHE, or `llm-scratch` in the system's cache folder."""
    if own := os.environ.get("LLM_SCRATCH_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "llm-scratch"


def offline() -> bool:
    """Whether the user forbids the network."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in ("LLM_SCRATCH_OFFLINE", "HF_HUB_OFFLINE"))


def fetch(name: str, urls: Sequence[str], sha256: str, size: int, folder: str | Path | None = None) -> Path:
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
        own = Path(given).expanduser() / name
        if not own.parent.is_dir():
            raise UserError(f"LLM_SCRATCH_DATA={given} is not a folder; make it or unset the variable", DATA)
        if own.exists():
            if _is(own, remote):
                return own
            raise UserError(f"{own} is another file; expected {size:,} bytes with sha256 {sha256}: replace or remove it", DATA)
    path = Path(folder or cache_folder()) / name
    if _is(path, remote):
        return path
    if offline():
        raise _without_network(name, remote, "the network is switched off (LLM_SCRATCH_OFFLINE or HF_HUB_OFFLINE)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.parent):
            if not _is(path, remote):
                _download(path, remote)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}; free space, or set LLM_SCRATCH_CACHE to another folder", RESOURCES) from e
    return path


def _is(path: Path, remote: Remote) -> bool:
    """Whether the file at `path` is the pinned one."""
    if not path.is_file() or path.stat().st_size != remote.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256


def _without_network(name: str, remote: Remote, why: str) -> UserError:
    return UserError(
        f"cannot download {name}: {why}; put the file, {remote.size:,} bytes with sha256 {remote.sha256}, as {name} into a folder "
        f"and set LLM_SCRATCH_DATA to that folder (it comes from {remote.urls[0]})",
        DATA,
    )


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that a second process waits and then finds the file; where there is no flock, sha256 alone guards."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class _Failed(Exception):
    """A try that did not end in the file: `for_good` when this address will never do better, `start_over` when what came is no use."""

    def __init__(self, why: str, *, for_good: bool = False, start_over: bool = False) -> None:
        super().__init__(why)
        self.for_good, self.start_over = for_good, start_over


def _download(path: Path, remote: Remote) -> None:
    """Try, wait and try again, until the pinned file stands at `path` or `TRIES` tries in a row brought nothing new."""
    part = path.with_name(f".{path.name}.part")
    urls, etags = [_mirrored(url) for url in remote.urls], dict[str, str]()
    tries, furthest = 0, _size(part)
    if (free := shutil.disk_usage(part.parent).free) < remote.size - furthest:
        raise OSError(errno.ENOSPC, f"{remote.size - furthest:,} bytes are to come and {free:,} are free")
    with _progress(path.name, remote.size) as show:
        while True:
            url = urls.pop(0)
            try:
                _one_try(part, url, remote, etags, show)
                os.replace(part, path)
                return
            except _Failed as e:
                why = f"{e} ({url})"
                urls += [] if e.for_good else [url]
                if e.start_over or not _size(part):
                    part.unlink(missing_ok=True)
            except OSError:
                part.unlink(missing_ok=True)  # a full disk gets its space back
                raise
            new = _size(part) >= furthest + CHUNK
            tries, furthest = (0 if new else tries + 1), max(furthest, _size(part))
            if not urls or tries >= TRIES:
                raise _without_network(path.name, remote, why)
            pause = random.uniform(1, min(30, 2**tries))  # seconds; drawn, so that many machines do not come back all at once
            log.warning("%s: %s; next try in %.0f s", path.name, why, pause)
            sleep(pause)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mirrored(url: str) -> str:
    """The address at the user's mirror, if there is one."""
    mirror = os.environ.get("LLM_SCRATCH_MIRROR")
    return mirror.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl() if mirror else url


def _one_try(part: Path, url: str, remote: Remote, etags: dict[str, str], show: Callable[[int], Any]) -> None:
    """Bring `part` from where it stands to the whole, right file, or raise `_Failed`."""
    with part.open("ab") as file:
        if file.tell() < remote.size:
            with _answer(url, file.tell(), remote.size, etags) as answer:
                if answer.status == 200:  # from the first byte on: the server keeps no ranges, or has a new version
                    file.truncate(file.seek(0))
                while piece := _piece(answer):
                    if file.tell() + len(piece) > remote.size:
                        raise _Failed(f"wrong length: more than {remote.size:,} bytes", start_over=True)
                    file.write(piece)
                    show(file.tell())
            if file.tell() < remote.size:
                raise _Failed(f"the connection broke at {file.tell():,} of {remote.size:,} bytes")
        file.flush()
        os.fsync(file.fileno())
    if not _is(part, remote):
        raise _Failed("wrong bytes: the sha256 differs", start_over=True)


def _answer(url: str, start: int, size: int, etags: dict[str, str]) -> http.client.HTTPResponse:
    """The server's answer to "the bytes from `start` on": status 206 with exactly these, or 200 with the file from its beginning."""
    headers = {"User-Agent": "llm-scratch"} | ({"Range": f"bytes={start}-"} if start else {})
    if start and etags.get(url, "").startswith('"'):  # not W/"...": a weak tag does not promise equal bytes
        headers["If-Range"] = etags[url]
    try:
        _check_address(url)
        answer = urllib.request.build_opener(_Redirects).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        e.close()
        for_good = e.code < 500 and e.code not in (408, 416, 425, 429)
        raise _Failed(f"the server answers {e.code} {e.reason}", for_good=for_good, start_over=e.code == 416) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise _Failed(_reason(e)) from e
    before, etags[url] = etags.get(url), answer.headers.get("ETag", "")
    length = answer.headers.get("Content-Length", str(size))
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if answer.status == 200 and length == str(size):
        return answer
    if answer.status == 206 and span and int(span[1]) == start and span[2] in (str(size), "*") and before in (None, etags[url]):
        return answer
    answer.close()
    if answer.status == 206:
        raise _Failed("the file changed while it came", start_over=True)
    raise _Failed(f"the server answers {answer.status} with {length} bytes, expected 200 with {size}")


def _piece(answer: http.client.HTTPResponse) -> bytes:
    """What has arrived by now, at most a chunk; b"" at the end."""
    try:
        return answer.read1(CHUNK)
    except http.client.IncompleteRead as e:  # what newer Pythons raise where older ones give b""
        return e.partial
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise _Failed(_reason(e)) from e


def _reason(error: Exception) -> str:
    """Why the network failed, in the words of the system."""
    cause = getattr(error, "reason", error)  # of a URLError
    return f"no byte for {TIMEOUT:g} s" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where `_check_address` lets it."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> urllib.request.Request | None:
        fp.close()
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(url: str) -> None:
    """Refuse what is not http(s), and link-local machines: 169.254.169.254 hands a cloud machine's secrets to whoever asks from inside."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Failed(f"{url} is not an http or https address", for_good=True)
    try:
        found = socket.getaddrinfo(parts.hostname, None)
    except OSError:
        return  # the request itself will say so; behind a proxy it may yet work
    for *_, (host, *_) in found:
        address = ipaddress.ip_address(host)
        if (getattr(address, "ipv4_mapped", None) or address).is_link_local:
            raise _Failed(f"{url} leads to the link-local address {host}", for_good=True)


@contextmanager
def _progress(name: str, size: int) -> Iterator[Callable[[int], Any]]:
    """A function to call with the bytes that are here; draws a bar where somebody watches."""
    if not sys.stderr.isatty():
        yield lambda here: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=size)
        yield lambda here: bar.update(task, completed=here)
