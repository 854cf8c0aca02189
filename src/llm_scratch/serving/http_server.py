"""A small local HTTP server for a page and its JSON requests, on the standard library.

Static files are a table, name -> bytes, read at the start: no request becomes a path. Routes are
functions from a JSON object to an answer; a route that yields events is streamed as server-sent
events and ends when the reader goes away. Errors have the shape of OpenAI's API.
Tests: tests/serving/test_http_server.py, tests/reliability/ (rows S1 to S4, S10 to S12).
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from llm_scratch.errors import UserError, describe_error
from llm_scratch.serving.request_guard import RequestError, RequestGuard
from llm_scratch.storage.safe_parse import parse_json

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1 << 20
MIN_GZIP_BYTES = 1000
TIMEOUT_SECONDS = 30
"""Longest wait for the next bytes of a request."""
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none';"
        " form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Route = Callable[[Mapping[str, Any]], Any]
"""a JSON object -> a JSON value, JSON as bytes, or an iterator of events"""


class StaticFile(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str


class LocalServer(ThreadingHTTPServer):
    """A server of static files and JSON routes.

    Args:
        address: (host, port); port 0 selects a free one.
        files: URL path -> file; "/" is the page.
        routes: URL path -> function; requested by POST.
        secret: see `RequestGuard`.
    Raises:
        UserError: the port is in use, or the address is not this machine's.
    """

    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = os.name != "nt"  # on Windows it would let two servers take one port

    def __init__(
        self,
        address: tuple[str, int],
        files: Mapping[str, StaticFile],
        routes: Mapping[str, Route],
        secret: str,
    ) -> None:
        self._connections: set[Any] = set()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, Handler)
        except OSError as e:
            raise UserError(
                f"port {address[1]}: {e.strerror or e}; choose another --port, or 0 for a free one"
            ) from e
        self.files, self.routes = files, routes
        host = address[0] if ":" not in address[0] else f"[{address[0]}]"
        self.guard = RequestGuard(self.server_port, secret, host)

    @property
    def url(self) -> str:
        """The address to open, with the secret."""
        host = str(self.server_address[0])
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.server_port}/?token={self.guard.secret}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a new thread."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and end the connections that pages keep open."""
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a connection that broke; a client that disconnected is not an error."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            log.error("connection failed: %s", describe_error(error or OSError(), named=True))


class Handler(BaseHTTPRequestHandler):
    """One connection of a `LocalServer`."""

    server: LocalServer
    protocol_version = "HTTP/1.1"
    server_version = "llm-scratch"
    sys_version = ""
    timeout = TIMEOUT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests contain the reader's text."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not valid HTTP, or of another method."""
        self.close_connection = True
        self._send_error(
            code, "invalid_request", f"HTTP: {message or 'not understood'}; use GET or POST"
        )

    def do_GET(self) -> None:
        """Answer with a static file; the URL with the secret sets the cookie first."""
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Answer a JSON request."""
        self._answer(self._post)

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            self.server.guard.check_host(self.headers)
            work()
        except RequestError as e:
            self._send_error(e.status, e.error_code, str(e))
        except UserError as e:
            self._send_error(400, "invalid_request", str(e))
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception as e:
            log.exception(
                "request %s failed",
                self.path.partition("?")[0][:80].encode("ascii", "backslashreplace").decode(),
            )
            self._send_error(
                500, "internal_error", f"unexpected {describe_error(e, named=True)}; this is a bug"
            )

    def _get(self) -> None:
        try:
            url = urlsplit(self.path)
        except ValueError:
            raise RequestError(400, "invalid_request", "the address is not valid; open /") from None
        token = parse_qs(url.query).get("token", [""])[0]
        if url.path == "/" and token:
            if not self.server.guard.is_secret(token):
                raise RequestError(
                    401,
                    "wrong_token",
                    "the token is of an earlier start of this server; open the URL that it printed",
                )
            self._send(303, b"", {"Location": "/", "Set-Cookie": self.server.guard.cookie()})
            return
        file = self.server.files.get(url.path)
        if file is None:
            raise RequestError(404, "not_found", "there is no such file; open /")
        self._send(200, file.content, {"Content-Type": file.media_type}, compress=True)

    def _post(self) -> None:
        guard = self.server.guard
        guard.check_origin(self.headers)
        if self.headers.get_content_type() != "application/json":
            raise RequestError(
                415, "unsupported_media_type", "Content-Type: expected application/json"
            )
        guard.check_secret(self.headers)
        route = self.server.routes.get(self.path)
        if route is None:
            raise RequestError(404, "not_found", "there is no such request; the page has the list")
        answer = route(parse_json(self._body(), "request", 2))
        if isinstance(answer, Generator):
            self._stream(answer)
            return
        content = answer if isinstance(answer, bytes) else encode(answer)
        self._send(200, content, {"Content-Type": "application/json"}, compress=True)

    def _body(self) -> bytes:
        """The body of the request; one that is too large is rejected before it is read."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or self.headers.get("Transfer-Encoding"):
            raise RequestError(411, "length_required", "Content-Length: missing or not a number")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise RequestError(
                413,
                "request_too_large",
                f"the request is larger than {MAX_BODY_BYTES:,} bytes; send less text",
            )
        try:
            body = self.rfile.read(int(length))
        except TimeoutError:
            raise RequestError(408, "timeout", "the request did not arrive in time") from None
        if len(body) < int(length):
            raise ConnectionError("the request ended early")
        self._body_read = True
        return body

    def _stream(self, events: Generator[Any]) -> None:
        """Send events as they are made; an error becomes the last event."""
        self.close_connection = True
        self._send_head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        try:
            for event in events:
                self._send_event(event)
        except ConnectionError:
            return  # the reader pressed Stop; closing the iterator below ends the generation
        except Exception as e:
            if not isinstance(e, UserError):
                log.exception("stream failed")
            if isinstance(e, UserError):
                message = str(e)
            else:
                message = f"unexpected {describe_error(e, named=True)}; this is a bug"
            self._send_event({"error": error_body("generation_failed", message)})
        finally:
            events.close()

    def _send_event(self, event: Any) -> None:
        self.wfile.write(b"data: " + encode(event) + b"\n\n")
        self.wfile.flush()

    def _send_error(self, status: int, code: str, message: str) -> None:
        if getattr(self, "command", None) != "GET" and not getattr(self, "_body_read", False):
            self.close_connection = True  # an unread body would be taken for the next request
        self._send(
            status,
            encode({"error": error_body(code, message)}),
            {"Content-Type": "application/json"},
        )

    def _send(
        self, status: int, content: bytes, headers: Mapping[str, str], compress: bool = False
    ) -> None:
        headers = dict(headers)
        if (
            compress
            and len(content) > MIN_GZIP_BYTES
            and "gzip" in self.headers.get("Accept-Encoding", "")
        ):
            content = gzip.compress(content, 5)
            headers["Content-Encoding"] = "gzip"
        self._send_head(status, headers | {"Content-Length": str(len(content))})
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(content)
        self._body_read = False

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in (SECURITY_HEADERS | dict(headers)).items():
            self.send_header(name, value)
        if self.close_connection and "Connection" not in headers:
            self.send_header("Connection", "close")
        self.end_headers()


def encode(value: Any) -> bytes:
    """A value as JSON, in which NaN and infinity cannot occur."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "replace"
    )


def error_body(code: str, message: str) -> dict[str, str]:
    """An error in the shape of OpenAI's API."""
    return {
        "message": message,
        "type": "invalid_request_error" if code != "internal_error" else "server_error",
        "code": code,
    }
