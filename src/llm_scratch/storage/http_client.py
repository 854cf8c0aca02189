"""One answer from the internet: the bytes of a file from some byte on, or the reason why not.

Only http and https are spoken, https never goes on as http, and machines of the own network segment are not asked: 169.254.169.254
hands a cloud machine's secrets to whoever asks from inside.
Tests: tests/storage/test_download.py.
Source: RFC 9110, sections 13.1.5 (If-Range) and 14 (Range), https://www.rfc-editor.org/rfc/rfc9110.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import re
import socket
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 20.0  # seconds without a byte
CHUNK = 1 << 16  # bytes
UNREACHABLE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}


class RequestError(Exception):
    """A try that did not end in the file.

    Args:
        why: the reason.
        for_good: this address will never do better.
        start_over: what came is no use.
        unreachable: no server was found at all, as on a machine without a network.
    """

    def __init__(self, why: str, *, for_good: bool = False, start_over: bool = False, unreachable: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good
        self.start_over = start_over
        self.unreachable = unreachable


def open_range(url: str, start: int, size: int | None, etags: dict[str, str]) -> tuple[http.client.HTTPResponse, int]:
    """The server's answer to "the bytes from `start` on", and the size of the whole file.

    Args:
        size: what the file must have; None: what the server says.
        etags: the version that each address gave before; this one's is written down.
    Returns:
        Status 206 with exactly these bytes, or 200 with the file from its beginning.
    Raises:
        Failed: neither.
    """
    headers = {"User-Agent": "llm-scratch"} | ({"Range": f"bytes={start}-"} if start else {})
    if start and etags.get(url, "").startswith('"'):  # not W/"...": a weak tag does not promise equal bytes
        headers["If-Range"] = etags[url]
    try:
        check_address(url)
        answer = urllib.request.build_opener(Redirects).open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        e.close()
        for_good = e.code < 500 and e.code not in (408, 416, 425, 429)
        raise RequestError(f"the server answers {e.code} {e.reason}", for_good=for_good, start_over=e.code == 416) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise RequestError(_describe(e), unreachable=is_unreachable(e)) from e
    before, etag = etags.get(url), answer.headers.get("ETag", "")
    length = answer.headers.get("Content-Length", "unknown" if size is None else str(size))
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if answer.status == 200 and length.isdecimal() and size in (None, int(length)):
        etags[url] = etag
        return answer, int(length)
    if answer.status == 206 and span and int(span[1]) == start and before in (None, etag):
        total = span[2] if span[2] != "*" else str(size)
        if total.isdecimal() and size in (None, int(total)):
            etags[url] = etag
            return answer, int(total)
    answer.close()
    if answer.status == 206:
        raise RequestError("the file changed while it came", start_over=True)
    expected = "expected 200 and how many there are" if size is None else f"expected 200 with {size}"
    raise RequestError(f"the server answers {answer.status} with {length} bytes, {expected}")


def read_chunk(answer: http.client.HTTPResponse) -> bytes:
    """What has arrived by now, at most a chunk; b"" at the end."""
    try:
        return answer.read1(CHUNK)
    except http.client.IncompleteRead as e:  # what newer Pythons raise where older ones give b""
        return e.partial
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise RequestError(_describe(e)) from e


def _describe(error: Exception) -> str:
    """Why the network failed, in the words of the system."""
    cause = getattr(error, "reason", error)  # of a URLError
    if isinstance(cause, socket.gaierror):
        return "the name of the server does not resolve"
    return f"no byte for {TIMEOUT:g} s" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__


def is_unreachable(error: Exception) -> bool:
    """Whether an error is that of a machine without a network: a name that does not resolve, no route."""
    cause = getattr(error, "reason", error)
    return isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in UNREACHABLE


def resolves(url: str) -> bool:
    """Whether the name of a server resolves; True behind a proxy, which resolves names itself.

    For libraries that would try a name again and again.
    """
    if urllib.request.getproxies().keys() & {"http", "https", "all"}:
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only where `check_address` lets it, and not from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> urllib.request.Request | None:
        """The request that follows."""
        fp.close()
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise RequestError(f"{req.full_url} leads to {newurl}, which is not encrypted", for_good=True)
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Refuse what is not http(s), and link-local machines.

    Raises:
        Failed: it is one of these.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f"{url} is not an http or https address", for_good=True)
    try:
        found = socket.getaddrinfo(parts.hostname, None)
    except OSError:
        return  # the request itself will say so; behind a proxy it may yet work
    for *_, (host, *_) in found:
        address = ipaddress.ip_address(host)
        if (getattr(address, "ipv4_mapped", None) or address).is_link_local:
            raise RequestError(f"{url} leads to the link-local address {host}", for_good=True)
