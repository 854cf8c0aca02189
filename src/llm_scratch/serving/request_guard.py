"""Decide which HTTP requests a local server answers: only those of its own page.

A web page from elsewhere can make the reader's browser send requests to 127.0.0.1. Three checks
reject them: the Host header must name this server (against DNS rebinding), an Origin header must be
its own (against cross-site requests), and a secret must come with the request. The secret is in the
URL that the program prints, once; the first visit turns it into a cookie.
Tests: tests/reliability/test_s_playground_server.py, tests/reliability/test_p_playground.py.
Source: DNS rebinding against local model servers, CVE-2024-28224.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from email.message import Message
from http.cookies import CookieError, SimpleCookie

from llm_scratch.errors import UserError

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class RequestError(UserError):
    """A request that is rejected, with its HTTP status and an error code for programs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error_code = status, code


@dataclass(frozen=True)
class RequestGuard:
    """The checks of a server.

    Attributes:
        port: of the server.
        secret: required from every visitor.
        host: another name or address under which the server is reached (default: this machine).
    """

    port: int
    secret: str = field(repr=False)
    host: str = ""

    @property
    def hosts(self) -> set[str]:
        """The values of the Host header that are answered; compared exactly."""
        return {f"{name}:{self.port}" for name in (*LOCAL_NAMES, *filter(None, [self.host]))}

    @property
    def cookie_name(self) -> str:
        """The cookie's name, with the port: all ports of a host share their cookies."""
        return f"llm-scratch-{self.port}"

    def check_host(self, headers: Message) -> None:
        """Check the Host header.

        Raises:
            RequestError: 403, it is missing, double, or names another server.
        """
        hosts = headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            raise RequestError(
                403,
                "foreign_host",
                f"Host: this server is {sorted(self.hosts)[0]}; open that address",
            )

    def check_origin(self, headers: Message) -> None:
        """Check the Origin header of a request that makes the server compute.

        Raises:
            RequestError: 403, it is another page's.
        """
        own = {f"http://{host}" for host in self.hosts}
        if any(origin not in own for origin in headers.get_all("Origin", [])):
            raise RequestError(
                403,
                "foreign_origin",
                "Origin: requests of other pages are rejected; open the page of this server",
            )

    def check_secret(self, headers: Message) -> None:
        """Check the cookie, or the header `Authorization: Bearer SECRET`.

        Raises:
            RequestError: 401, neither has the secret.
        """
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        if not (self.is_secret(bearer) or self.is_secret(self._cookie(headers))):
            raise RequestError(
                401,
                "wrong_token",
                "this browser has not opened the server's address yet; open the URL that it"
                " printed",
            )

    def is_secret(self, value: str) -> bool:
        """Whether a value is the secret, in constant time."""
        return hmac.compare_digest(value.encode("utf-8", "surrogateescape"), self.secret.encode())

    def cookie(self) -> str:
        """The Set-Cookie header that keeps the secret."""
        return f"{self.cookie_name}={self.secret}; Path=/; HttpOnly; SameSite=Strict"

    def _cookie(self, headers: Message) -> str:
        try:
            cookies = SimpleCookie(headers.get("Cookie", ""))
        except CookieError:
            return ""
        return cookies[self.cookie_name].value if self.cookie_name in cookies else ""
