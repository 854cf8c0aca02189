"""HTTP client for range requests: open a URL from a byte offset on, with safe redirects.

Only http and https are supported, and https never redirects to http. Link-local addresses are
rejected: 169.254.169.254 returns a cloud machine's credentials to any process on it.
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

TIMEOUT = 20.0  # seconds without data
CHUNK = 1 << 16  # bytes
UNREACHABLE = {errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH}


class RequestError(Exception):
    """A failed download attempt.

    Args:
        reason: what failed.
        permanent: retrying this URL is useless.
        restart: the partial file is invalid and must be discarded.
        unreachable: no server was reached, as on a machine without a network.
    """

    def __init__(
        self,
        reason: str,
        *,
        permanent: bool = False,
        restart: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.permanent = permanent
        self.restart = restart
        self.unreachable = unreachable


def open_range(
    url: str, start: int, size: int | None, etags: dict[str, str]
) -> tuple[http.client.HTTPResponse, int]:
    """Request the bytes of a URL from `start` on; returns the response and the file's size.

    Args:
        url: the URL.
        start: offset of the first byte.
        size: expected size of the file (default: the size that the server reports).
        etags: URL -> ETag of its last response; updated.
    Returns:
        A response with status 206 and exactly these bytes, or 200 and the file from its beginning.
    Raises:
        RequestError: any other response, or no connection.
    """
    headers = {"User-Agent": "llm-scratch"} | ({"Range": f"bytes={start}-"} if start else {})
    # not W/"...": a weak tag does not guarantee equal bytes
    if start and etags.get(url, "").startswith('"'):
        headers["If-Range"] = etags[url]
    try:
        check_address(url)
        response = urllib.request.build_opener(Redirects).open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as e:
        e.close()
        permanent = e.code < 500 and e.code not in (408, 416, 425, 429)
        raise RequestError(
            f"the server responded {e.code} {e.reason}", permanent=permanent, restart=e.code == 416
        ) from e
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise RequestError(_describe(e), unreachable=is_unreachable(e)) from e
    previous = etags.get(url)
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "unknown" if size is None else str(size))
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if response.status == 200 and length.isdecimal() and size in (None, int(length)):
        etags[url] = etag
        return response, int(length)
    if response.status == 206 and span and int(span[1]) == start and previous in (None, etag):
        total = span[2] if span[2] != "*" else str(size)
        if total.isdecimal() and size in (None, int(total)):
            etags[url] = etag
            return response, int(total)
    response.close()
    if response.status == 206:
        raise RequestError("the file changed during the download", restart=True)
    expected = "expected 200 with a size" if size is None else f"expected 200 with {size}"
    raise RequestError(f"the server responded {response.status} with {length} bytes, {expected}")


def read_chunk(response: http.client.HTTPResponse) -> bytes:
    """Read the available bytes, at most a chunk; b"" at the end."""
    try:
        return response.read1(CHUNK)
    except http.client.IncompleteRead as e:
        # newer versions of Python raise where older ones return b""
        return e.partial
    except (OSError, http.client.HTTPException, ValueError) as e:
        raise RequestError(_describe(e)) from e


def _describe(error: Exception) -> str:
    """Describe a network error."""
    cause = getattr(error, "reason", error)  # of a URLError
    if isinstance(cause, socket.gaierror):
        return "the host name does not resolve"
    if isinstance(cause, TimeoutError):
        return f"no data for {TIMEOUT:g} s"
    return str(cause) or type(cause).__name__


def is_unreachable(error: Exception) -> bool:
    """Whether an error indicates a missing network: the host name does not resolve, no route."""
    cause = getattr(error, "reason", error)
    return isinstance(cause, socket.gaierror) or getattr(cause, "errno", None) in UNREACHABLE


def resolves(url: str) -> bool:
    """Whether the host name of a URL resolves; True behind a proxy, which resolves names itself."""
    if urllib.request.getproxies().keys() & {"http", "https", "all"}:
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to addresses that `check_address` accepts, not from https to http."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Make the request for the redirect."""
        fp.close()
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise RequestError(
                f"{req.full_url} redirects to {newurl}, which is not encrypted", permanent=True
            )
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Reject URLs that are not http(s), and link-local addresses.

    Raises:
        RequestError: the URL is rejected.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RequestError(f"{url} is not an http or https address", permanent=True)
    try:
        addresses = socket.getaddrinfo(parts.hostname, None)
    except OSError:
        return  # the request reports it; behind a proxy it may still work
    for *_, (host, *_) in addresses:
        address = ipaddress.ip_address(host)
        if (getattr(address, "ipv4_mapped", None) or address).is_link_local:
            raise RequestError(f"{url} resolves to the link-local address {host}", permanent=True)
