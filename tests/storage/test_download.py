"""Downloads from a server with each known failure end with the file or one clear error."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import random
import re
import socket
import struct
import sys
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from effort import PATIENCE_SECONDS, wait_until

from llm_scratch.errors import DATA, RESOURCES, UserError
from llm_scratch.storage import download, http_client
from llm_scratch.storage.download import FILES, MAX_ATTEMPTS, fetch
from llm_scratch.storage.http_client import CHUNK, Redirects, RequestError

CONTENT = random.Random(7).randbytes(5 * CHUNK + 321)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; each request takes one fault from `faults` while there are any."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Callable[[Handler], None]] = []
        self.requests: list[dict[str, str]] = []
        self.parts: list[tuple[int, int]] = []
        """the start of each requested range, and the size of the .part file at that time"""
        self.folder: Path | None = None
        """the folder of the .part file"""
        self.sent = 0
        self.etag = '"one"'
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"

    def handle_error(self, request, client_address) -> None:
        """Ignore a client that disconnects."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(
            {k.lower(): v for k, v in self.headers.items()} | {"path": self.path}
        )
        if self.server.folder is not None:
            part = self.server.folder / ".file.bin.part"
            range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
            self.server.parts.append((int(range_match[1]), part.stat().st_size))
        fault = self.server.faults.pop(0) if self.server.faults else Handler.good
        fault(self)

    def log_message(self, *args) -> None:
        """Print nothing."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        self.server.sent += len(data)
        self.wfile.write(data)
        self.wfile.flush()

    @property
    def start(self) -> int:
        """Return the byte at which a client may resume.

        It is 0 unless the client requests a range of the served version.
        """
        range_match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return (
            int(range_match[1])
            if range_match and self.headers.get("If-Range", self.server.etag) == self.server.etag
            else 0
        )

    def good_head(self, **more: object) -> bytes:
        """Send correct headers; return the bytes that should follow."""
        rest = CONTENT[self.start :]
        ranged = (
            {"Content_Range": f"bytes {self.start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
            if self.start
            else {}
        )
        self.head(
            206 if self.start else 200,
            **({"Content_Length": len(rest), "ETag": self.server.etag} | ranged | more),
        )
        return rest

    def good(self) -> None:
        self.body(self.good_head())


def status(code: int, **headers: object) -> Callable[[Handler], None]:
    return lambda h: h.head(code, Content_Length=0, **headers)


def cut(n: int) -> Callable[[Handler], None]:
    """Send n bytes of the body, then close the connection."""
    return lambda h: h.body(h.good_head()[:n])


def reset(n: int) -> Callable[[Handler], None]:
    """Send n bytes of the body, then reset the connection."""

    def fault(h: Handler) -> None:
        h.body(h.good_head()[:n])
        h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        h.rfile.close()
        h.wfile.close()
        h.connection.close()

    return fault


def stall(h: Handler) -> None:
    h.body(h.good_head()[: CHUNK + 5])
    h.server.over.wait(60)


def whole(data: bytes, **headers: object) -> Callable[[Handler], None]:
    """Send this data from its beginning for any requested range."""

    def fault(h: Handler) -> None:
        h.head(200, **({"Content_Length": len(data), "ETag": '"one"'} | headers))
        h.body(data)

    return fault


def no_length(data: bytes) -> Callable[[Handler], None]:
    def fault(h: Handler) -> None:
        h.head(200)
        h.body(data)

    return fault


def chunked(n: int) -> Callable[[Handler], None]:
    """Send n bytes in chunked encoding, without a length and without its end."""

    def fault(h: Handler) -> None:
        h.head(200, Transfer_Encoding="chunked", ETag='"one"')
        h.wfile.write(f"{n:x}\r\n".encode())
        h.body(CONTENT[:n])

    return fault


def wrong_range(h: Handler) -> None:
    h.head(206, ETag='"one"', Content_Length=10, Content_Range=f"bytes 7-16/{len(CONTENT)}")
    h.body(CONTENT[7:17])


def other_version(h: Handler) -> None:
    """Serve a changed file and ignore If-Range."""
    rest = bytes(len(CONTENT))[int(h.headers["Range"][6:-1]) :]
    h.head(
        206,
        ETag='"two"',
        Content_Length=len(rest),
        Content_Range=f"bytes {len(CONTENT) - len(rest)}-{len(CONTENT) - 1}/{len(CONTENT)}",
    )
    h.body(rest)


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """Isolate the environment; waits take no time and are recorded."""
    for name in (
        "LLM_SCRATCH_DATA",
        "LLM_SCRATCH_OFFLINE",
        "HF_HUB_OFFLINE",
        "LLM_SCRATCH_MIRROR",
        "LLM_SCRATCH_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    seconds: list[float] = []
    monkeypatch.setattr(download, "sleep", seconds.append)
    monkeypatch.setattr(http_client, "TIMEOUT", 60.0)
    return seconds


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


def get(server: Server, folder: Path) -> Path:
    return fetch("file.bin", [server.url], SHA, len(CONTENT), folder)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_download_requests_a_good_server_once(server, tmp_path, pauses):
    for _ in range(2):
        assert get(server, tmp_path / "new").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["file.bin"]
    assert len(server.requests) == 1
    assert not pauses


MENDED = {
    "503 twice": ("responded 503", [status(503), status(503)]),
    "429": ("responded 429", [status(429)]),
    "closed": (f"closed at {3 * CHUNK + 17:,} of", [cut(3 * CHUNK + 17)]),
    "closed before a byte": ("closed at 0 of", [cut(0)]),
    "closed within a chunk": (f"closed at {CHUNK + 9:,} of", [chunked(CHUNK + 9)]),
    "reset in the headers": (
        "Remote end closed",
        [lambda h: h.connection.shutdown(socket.SHUT_RDWR)],
    ),
    "wrong length": (f"200 with {len(CONTENT) - 9} bytes", [whole(CONTENT[:-9])]),
    "longer": ("wrong length: more than", [no_length(CONTENT + b"more")]),
    "shorter, unsaid": ("responded 416", [no_length(CONTENT[:-9]), status(416)]),
    "same length, wrong bytes": ("the sha256 differs", [whole(bytes(len(CONTENT)))]),
    "one bit wrong": ("the sha256 differs", [whole(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))]),
    "range ignored": ("closed at", [cut(2 * CHUNK), whole(CONTENT)]),
    "range ignored by wrong bytes": (
        "the sha256 differs",
        [cut(2 * CHUNK), whole(bytes(len(CONTENT)))],
    ),
    "another range": ("the file changed", [cut(2 * CHUNK), wrong_range]),
    "changed, If-Range unminded": ("the file changed", [cut(2 * CHUNK), other_version]),
    "nothing to say": ("responded 204", [status(204)]),
    "not HTTP": ("hello", [lambda h: h.body(b"hello?\n\n")]),
    "four faults": ("responded 502", [status(500), cut(0), status(502), cut(100)]),
}


@pytest.mark.parametrize("fault", MENDED)
def test_download_retries_and_logs_transient_failures(fault, server, tmp_path, pauses, caplog):
    reason, server.faults = MENDED[fault][0], list(MENDED[fault][1])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]
    assert not server.faults
    assert all(1 <= pause <= 30 for pause in pauses)
    assert reason in caplog.text
    assert caplog.text.count("retrying in") == len(pauses) == len(server.requests) - 1


@pytest.mark.parametrize("useless", [status(416), wrong_range, other_version])
def test_download_restarts_when_resume_is_impossible(useless, server, tmp_path):
    server.faults = [cut(2 * CHUNK), useless]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert ["range" in request for request in server.requests] == [False, True, False]


def test_download_stops_at_the_expected_size(server, tmp_path):
    def endless(h: Handler) -> None:
        h.head(200)
        for _ in range(1000):
            h.body(bytes(CHUNK))

    server.faults = [endless]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent < 500 * CHUNK


def test_download_resumes_after_a_reset_at_any_byte(server, tmp_path):
    draw = random.Random(20)
    for i in range(20):
        server.faults = [reset(draw.randrange(len(CONTENT)))]
        assert get(server, tmp_path / str(i)).read_bytes() == CONTENT


def test_download_resumes_after_a_stall(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(http_client, "TIMEOUT", 1.0)
    server.faults = [stall]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["range"] == f"bytes={CHUNK + 5}-"
    assert "no data for 1 s" in caplog.text


def test_download_with_twenty_interruptions_requests_each_byte_once(tmp_path, server, monkeypatch):
    monkeypatch.setattr(http_client, "CHUNK", 1000)
    server.faults = [cut(random.Random(i).randrange(1000, 12_000)) for i in range(20)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 21
    assert server.sent == len(CONTENT)
    assert all(request["if-range"] == '"one"' for request in server.requests[1:])


def test_download_restarts_when_the_file_changed(server, tmp_path):
    def changed(h: Handler) -> None:
        server.etag = '"two"'
        h.good()

    server.faults = [cut(2 * CHUNK), changed]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["if-range"] == '"one"'
    assert server.sent == 2 * CHUNK + len(CONTENT)


def test_download_restarts_with_a_weak_etag(server, tmp_path):
    server.etag = 'W/"one"'
    server.faults = [cut(2 * CHUNK)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert "if-range" not in server.requests[1]


def test_download_resumes_partial_file_of_a_dead_process(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(CONTENT[:1000])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == len(CONTENT) - 1000


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_download_verifies_partial_file_of_a_dead_process(left, server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(left)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


HOPELESS = {
    "always 503": (status(503), MAX_ATTEMPTS, "503"),
    "never a byte": (cut(0), MAX_ATTEMPTS, "closed at 0 of"),
    "always wrong bytes": (whole(bytes(len(CONTENT))), MAX_ATTEMPTS, "sha256 differs"),
    "always the wrong length": (whole(b"sign in to the hotel"), MAX_ATTEMPTS, "20 bytes"),
    "gone": (status(404), 1, "404"),
    "forbidden": (status(403), 1, "403"),
    "to a file": (status(302, Location="file:///etc/passwd"), 1, "302"),
    "to ftp": (status(301, Location="ftp://127.0.0.1/file.bin"), 1, "not an http"),
    "to a cloud's secrets": (
        status(302, Location="http://169.254.169.254/latest/meta-data"),
        1,
        "link-local address 169.254.169.254",
    ),
    "to them as one number": (status(307, Location="http://2852039166/"), 1, "link-local"),
    "to them in IPv6 clothes": (
        status(302, Location="http://[::ffff:169.254.169.254]/"),
        1,
        "link-local",
    ),
    "to a link-local IPv6": (status(302, Location="http://[fe80::1]/"), 1, "link-local"),
    "in a circle": (status(302, Location="/again"), None, "302"),
}


@pytest.mark.parametrize("fault", HOPELESS)
def test_download_permanent_failure_raises_one_error(fault, server, tmp_path, pauses):
    behave, tries, reason = HOPELESS[fault]
    server.faults = [behave] * 100
    with pytest.raises(UserError, match=re.escape(reason)) as error:
        get(server, tmp_path)
    assert error.value.code == DATA
    assert all(word in str(error.value) for word in ("LLM_SCRATCH_DATA", "file.bin", server.url))
    assert SHA not in str(error.value)
    assert "file.bin" not in names(tmp_path)
    assert tries in (None, len(server.requests))
    assert len(pauses) == (tries or 1) - 1


def test_download_follows_a_redirect_to_http(server, tmp_path):
    server.faults = [
        status(302, Location=server.url + "?moved"),
        cut(CHUNK),
        status(302, Location="/moved"),
    ]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [request["path"] for request in server.requests] == [
        "/file.bin",
        "/file.bin?moved",
        "/file.bin",
        "/moved",
    ]
    assert server.requests[3]["range"] == f"bytes={CHUNK}-"


@pytest.mark.parametrize(
    "url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "http:///x"]
)
def test_download_opens_http_addresses_only(url, tmp_path):
    with pytest.raises(UserError, match="not an http or https address"):
        fetch("x", [url], SHA, len(CONTENT), tmp_path)


def test_download_fails_when_no_server_responds(tmp_path, pauses):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        with pytest.raises(UserError, match="refused"):
            fetch(
                "file.bin",
                [f"http://127.0.0.1:{taken.getsockname()[1]}/"],
                SHA,
                len(CONTENT),
                tmp_path,
            )
    assert len(pauses) == MAX_ATTEMPTS - 1
    assert names(tmp_path) == []


@pytest.fixture
def resolver(monkeypatch):
    """Count name lookups, and let none resolve."""
    request = []

    def lookup(host, *rest, **more):
        request.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return request


def test_download_tries_once_when_the_name_does_not_resolve(resolver, tmp_path, pauses):
    with pytest.raises(UserError) as error:
        fetch("file.bin", ["http://models.example/file.bin"], SHA, len(CONTENT), tmp_path)
    assert pauses == []
    assert set(resolver) == {"models.example"}
    assert (
        str(error.value) == "cannot download file.bin: the host name does not resolve"
        " (http://models.example/file.bin); download it elsewhere, save it as FOLDER/file.bin"
        " and set LLM_SCRATCH_DATA=FOLDER. Without a network you can use: --data.source stories,"
        " your own texts (`train text FILE`), the models in runs/."
    )
    assert error.value.code == DATA


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_download_tries_once_without_a_route(number, monkeypatch, tmp_path, pauses):
    def connect(*address, **more):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(UserError, match="Without a network you can use"):
        fetch("file.bin", ["http://127.0.0.1:9/file.bin"], SHA, len(CONTENT), tmp_path)
    assert pauses == []


def test_download_retries_when_the_network_fails_during_it(monkeypatch, server, tmp_path, pauses):
    ask, calls = http_client.open_range, []

    def breaks_once(*args):
        calls.append(args)
        if len(calls) == 2:
            raise RequestError("the host name does not resolve", unreachable=True)
        return ask(*args)

    monkeypatch.setattr(http_client, "open_range", breaks_once)
    server.faults = [cut(2 * CHUNK)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(calls) == 3


def test_backoff_grows_to_half_a_minute_with_jitter(monkeypatch, server, tmp_path, pauses):
    bounds: list[tuple[float, float]] = []
    monkeypatch.setattr(
        download.random, "uniform", lambda low, high: bounds.append((low, high)) or low
    )
    monkeypatch.setattr(download, "MAX_ATTEMPTS", 8)
    server.faults = [status(503)] * 7
    get(server, tmp_path)
    assert bounds == [(1, 2), (1, 4), (1, 8), (1, 16), (1, 30), (1, 30), (1, 30)]
    assert pauses == [1] * 7


def test_download_pause_is_random_after_progress_too(monkeypatch, server, tmp_path, pauses):
    monkeypatch.setattr(http_client, "CHUNK", 1000)
    server.faults = [cut(9000)] * 20
    get(server, tmp_path)
    assert len(set(pauses)) == 20
    assert all(1 <= pause <= 2 for pause in pauses)


def test_download_uses_the_second_url_when_the_first_fails(server, tmp_path):
    server.faults = [status(404)]
    path = fetch(
        "file.bin", [server.url + "?first", server.url + "?second"], SHA, len(CONTENT), tmp_path
    )
    assert path.read_bytes() == CONTENT
    assert [request["path"] for request in server.requests] == [
        "/file.bin?first",
        "/file.bin?second",
    ]


def test_ctrl_c_keeps_the_partial_file_and_nothing_under_the_final_name(
    server, tmp_path, monkeypatch
):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "sleep", interrupted)
    server.faults = [cut(2 * CHUNK)]
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path)
    assert names(tmp_path) == [".file.bin.part"]
    assert (tmp_path / ".file.bin.part").read_bytes() == CONTENT[: 2 * CHUNK]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_eight_concurrent_downloads_request_the_file_once(server, tmp_path):
    pytest.importorskip("fcntl", reason="needs flock, which Windows lacks")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: get(server, tmp_path), range(8)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1


def test_download_checks_disk_space_before_any_request(server, tmp_path, monkeypatch):
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: type("Usage", (), {"free": len(CONTENT) - 1})
    )
    with pytest.raises(
        UserError,
        match=f"{len(CONTENT):,} bytes needed and {len(CONTENT) - 1:,} free; free disk space",
    ) as error:
        get(server, tmp_path)
    assert error.value.code == RESOURCES
    assert not server.requests
    assert names(tmp_path) == []


def test_download_removes_its_part_when_the_disk_is_full(server, tmp_path):
    resource = pytest.importorskip(
        "resource", reason="needs a limit on file sizes, which Windows lacks"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, hard))
    try:
        with pytest.raises(UserError, match="cannot write .*file.bin: File too large") as error:
            get(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.code == RESOURCES
    assert names(tmp_path) == []


def test_download_fails_when_the_folder_cannot_be_created(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot write") as error:
        get(server, tmp_path / "taken")
    assert error.value.code == RESOURCES


def test_download_draws_a_bar_on_a_terminal(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def chunk_by_chunk(h: Handler) -> None:
        """Send the next chunk only after the bar was drawn twice with the previous one."""
        rest = h.good_head()
        for i in range(0, len(rest), CHUNK):
            h.body(rest[i : i + CHUNK])
            for _ in range(2):
                drawn = terminal.tell()
                wait_until(lambda drawn=drawn: terminal.tell() > drawn, "the bar is drawn again")

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(http_client, "TIMEOUT", PATIENCE_SECONDS)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    server.faults = [chunk_by_chunk]
    get(server, tmp_path)
    drawn = terminal.getvalue()
    assert "file.bin" in drawn
    assert "of 320 KiB" in drawn
    assert re.search(r"[1-9][\d.]* ([KM]iB|B)/s", drawn), "the speed"
    assert re.search(r"(?!0 s)\d[\d. minsh]+ left", drawn), "the time left"


def test_download_prints_lines_on_a_narrow_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    with download._progress("file.bin") as show:
        assert isinstance(show, download.ProgressLog)


def test_download_prints_nothing_without_stderr(monkeypatch, capsys):
    """Simulate pythonw, where the bar would be printed to stdout."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(download, "REPORT_SECONDS", 0.0)
    with download._progress("file.bin") as show:
        show(1, 2)
    assert capsys.readouterr().out == ""


def test_download_prints_a_line_every_ten_seconds_off_a_terminal(monkeypatch, capsys):
    clock = iter([0, 0, 4, 8, 12, 16, 20, 24, 28, 40])  # of the beginning, and of each piece
    monkeypatch.setattr(download, "monotonic", lambda: next(clock))
    with download._progress("gpt2.safetensors") as show:
        for here in (50, 60, 70, 80, 90, 100, 110, 20, 20):
            show(here * 10**6, 548 * 10**6)
    assert capsys.readouterr().err.splitlines() == [
        "gpt2.safetensors: 76.3 MiB of 523 MiB, 2.38 MiB/s, 3 min 7 s left",
        "gpt2.safetensors: 105 MiB of 523 MiB, 2.38 MiB/s, 2 min 55 s left",
        "gpt2.safetensors: 19.1 MiB of 523 MiB, 0 B/s, ETA unknown",
    ]


def test_download_lines_have_bytes_speed_and_time_left(server, tmp_path, monkeypatch, capsys):
    """Use a clock that advances a second at each reading: the first, and one per chunk."""
    readings = []
    monkeypatch.setattr(download, "monotonic", lambda: readings.append(0) or len(readings))
    monkeypatch.setattr(download, "REPORT_SECONDS", 2)
    get(server, tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (len(readings) - 1) // 2 >= 3
    line = re.compile(r"file\.bin: [\d.]+ KiB of 320 KiB, [\d.]+ KiB/s, .*\d (s|min|h) left")
    assert all(map(line.fullmatch, lines)), lines


# The user's data folder, the cache, the environment variables.


def test_download_searches_the_data_folder_first_and_does_not_write_it(
    server, tmp_path, monkeypatch
):
    own, cache = tmp_path / "own", tmp_path / "cache"
    own.mkdir()
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(own))
    assert get(server, cache) == cache / "file.bin"
    assert names(own) == []
    (own / "file.bin").write_bytes(CONTENT)
    assert get(server, cache) == own / "file.bin"
    (own / "file.bin").write_bytes(bytes(len(CONTENT)))
    with pytest.raises(
        UserError, match="own/file.bin differs from the expected file .*; replace or remove it"
    ) as error:
        get(server, cache)
    assert error.value.code == DATA
    assert len(server.requests) == 1


def test_data_folder_that_is_missing_is_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_DATA", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="gone is not a folder"):
        get(server, tmp_path)


def test_cached_file_with_a_wrong_hash_is_replaced(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(bytes(len(CONTENT)))
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("switch", ["LLM_SCRATCH_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_download_makes_no_request(switch, server, tmp_path, monkeypatch):
    monkeypatch.setenv(switch, "1")
    with pytest.raises(UserError, match="downloads are disabled") as error:
        get(server, tmp_path)
    assert error.value.code == DATA
    assert not server.requests
    (tmp_path / "file.bin").write_bytes(CONTENT)
    assert get(server, tmp_path) == tmp_path / "file.bin"
    monkeypatch.setenv(switch, "0")
    (tmp_path / "file.bin").unlink()
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_mirror_replaces_the_host(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_MIRROR", server.url.rsplit("/", 1)[0] + "/files/")
    fetch("file.bin", ["https://example.org/a/file.bin?raw=1"], SHA, len(CONTENT), tmp_path)
    assert server.requests[0]["path"] == "/files/a/file.bin?raw=1"


def test_download_goes_to_the_cache_by_default(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_SCRATCH_CACHE", str(tmp_path / "cache"))
    assert fetch("file.bin", [server.url], SHA, len(CONTENT)) == tmp_path / "cache" / "file.bin"


def test_https_download_rejects_a_redirect_to_http():
    request = urllib.request.Request("https://example.org/file.bin")
    follow = functools.partial(
        Redirects().redirect_request, request, io.BytesIO(), 302, "Found", {}
    )
    with pytest.raises(
        RequestError, match="redirects to http://example.org/file.bin, which is not encrypted"
    ) as error:
        follow("http://example.org/file.bin")
    assert error.value.permanent
    assert follow("https://127.0.0.1/other.bin").full_url == "https://127.0.0.1/other.bin"


@pytest.mark.parametrize("name", FILES)
def test_every_remote_file_has_a_hash_or_is_listed(name, data_dir, monkeypatch):
    row = FILES[name]
    assert row.urls
    assert all(url.startswith("https://") for url in row.urls)
    assert re.fullmatch("[0-9a-f]{64}", row.sha256)
    assert row.size > 0
    if (data_dir / name).is_file():
        monkeypatch.setenv("LLM_SCRATCH_DATA", str(data_dir))
        assert fetch(name, *row) == data_dir / name


def test_download_without_a_hash_is_checked_by_size(server, tmp_path):
    server.faults = [cut(2 * CHUNK), no_length(CONTENT)]
    assert download.get(tmp_path / "x", download.Remote((server.url,))).read_bytes() == CONTENT
    assert server.requests[2]["range"] == f"bytes={2 * CHUNK}-"
    assert download.get(tmp_path / "x", download.Remote((server.url,))).read_bytes() == CONTENT
    assert len(server.requests) == 3
