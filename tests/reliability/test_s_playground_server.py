"""S1 to S4 and S10 to S12: the playground server's answers, and to whom it gives them."""

import json
import socket

import pytest
from effort import PATIENCE_SECONDS, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from playground_server import SECRET, TEXT, ask, playing

from llm_scratch.errors import UserError
from llm_scratch.serving.http_server import MAX_BODY_BYTES
from llm_scratch.serving.openapi import FIELDS, REQUESTS
from llm_scratch.serving.playground import open_playground


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with playing(tmp_path_factory.mktemp("film")) as running:
        yield running


def raw(server, data):
    """The server's answer to these bytes."""
    with socket.create_connection(
        ("127.0.0.1", server.server_port), timeout=PATIENCE_SECONDS
    ) as connection:
        connection.sendall(data)
        answer = b""
        while chunk := connection.recv(1 << 16):
            answer += chunk
            if b"\r\n\r\n" in answer and b"Connection: close" not in answer:
                break
        return answer


def post_head(server, name):
    """The head of a request, up to the length of its body."""
    address = f"Host: 127.0.0.1:{server.server_port}\r\nAuthorization: Bearer {SECRET}"
    return f"POST /api/{name} HTTP/1.1\r\n{address}\r\nContent-Type: application/json\r\n"


def status(answer):
    return int(answer.split(b" ", 2)[1])


def test_s1_server_listens_only_on_this_machine(server, measured):
    assert server.server_address[0] == "127.0.0.1"
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com"):
        with pytest.raises(UserError, match="other machines could reach it"):
            open_playground({}, host=host)
    measured("S1", "127.0.0.1; 4 of 4 other addresses refused", "127.0.0.1 and ::1 only")


FOREIGN_HOSTS = [
    "evil.com",
    "127.0.0.1.evil.com:{port}",
    "localhost.:{port}",
    "LOCALHOST.evil.com",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "127.0.0.1:1",
    "localhost:80",
    "0.0.0.0:{port}",
    "127.1:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "evil.com:{port}",
    "localhost:{port}.evil.com",
    "user@localhost:{port}",
    "localhost:{port}, evil.com",
    "localhost:{port}:80",
    " ",
    "",
    "localhost%00:{port}",
    "xn--lcalhost-23a:{port}",
    "localhost.local:{port}",
    "127.0.0.1:{port}/",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_s2_foreign_host_is_refused(server, host):
    host = host.format(port=server.server_port)
    for method in ("GET / ", "POST /api/start "):
        request = (
            f"{method}HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {SECRET}\r\nConnection:"
            " close\r\n\r\n"
        )
        assert status(raw(server, request.encode())) == 403


def test_s2_host_is_required_once_and_own_names_pass(server, measured):
    own = f"127.0.0.1:{server.server_port}"
    assert status(raw(server, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")) == 403
    twice = f"GET / HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\nConnection: close\r\n\r\n"
    assert status(raw(server, twice.encode())) == 403
    for name in ("127.0.0.1", "localhost", "[::1]"):
        request = (
            f"GET / HTTP/1.1\r\nHost: {name}:{server.server_port}\r\nConnection: close\r\n\r\n"
        )
        assert status(raw(server, request.encode())) == 200
    measured(
        "S2",
        f"{len(FOREIGN_HOSTS)} foreign values, a missing and a doubled one refused; 3 own names"
        " accepted",
        "25 values, all foreign refused",
    )


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "null",
        "https://127.0.0.1:{port}",
        "http://a.localhost:{port}",
        "http://127.0.0.1",
        "",
    ],
)
def test_s3_foreign_origin_is_refused(server, origin):
    code, headers, answer = ask(
        server, "/api/start", {}, headers={"Origin": origin.format(port=server.server_port)}
    )
    assert code == 403
    assert answer["error"]["code"] == "foreign_origin"
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_s3_body_must_be_json_and_secret_is_required(server, measured):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        assert ask(server, "/api/start", {}, headers={"Content-Type": kind})[0] == 415
    for secret in (None, "Bearer wrong", "Bearer ", f"Bearer {SECRET}x", "Bearer \xe9"):
        assert ask(server, "/api/start", {}, headers={"Authorization": secret})[0] == 401
    assert ask(server, "/?token=wrong", method="GET")[0] == 401
    own = f"http://127.0.0.1:{server.server_port}"
    code, headers, _ = ask(server, "/api/ping", {}, headers={"Origin": own})
    assert code == 200
    assert not [name for name in headers if name.lower().startswith("access-control")]
    measured(
        "S3",
        "6 foreign origins, 4 content types, 5 wrong tokens refused; no Access-Control header",
        "403 or 415, no Access-Control-*",
    )


def test_s3_visit_with_token_sets_a_cookie_that_scripts_and_other_pages_cannot_use(server):
    code, headers, _ = ask(server, f"/?token={SECRET}", method="GET")
    assert (code, headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= set(headers["Set-Cookie"].split("; "))
    cookie = headers["Set-Cookie"].split(";")[0]
    assert ask(server, "/api/ping", {}, headers={"Authorization": None, "Cookie": cookie})[0] == 200


def test_s3_preflight_is_refused(server):
    code, headers, _ = ask(
        server, "/api/start", method="OPTIONS", headers={"Origin": "http://evil.com"}
    )
    assert code == 501
    assert not [name for name in headers if name.lower().startswith("access-control")]


def outside_paths():
    """Paths that lead out of the static files."""
    ups = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%252e%252e%252f",
        "..\\",
        "..%5c",
        "....//",
        "..;/",
        "%c0%ae%c0%ae/",
        ".%00./",
    ]
    targets = ["etc/passwd", "pyproject.toml", "serving/playground.py", "__init__.py"]
    yield from (f"/{up * depth}{target}" for up in ups for depth in (1, 3, 8) for target in targets)
    yield from (
        f"/{prefix}{target}"
        for prefix in ("/", "views/../../", "views/", "file:///", "C:/", "~/", "./")
        for target in targets
    )
    yield from (f"/?path={target}" for target in targets[1:])
    yield from (
        f"/index.html{tail}"
        for tail in ("/", "/..", "%00", "%20", ".", "::$DATA", "/../../__init__.py", "\\..\\..\\x")
    )


def test_s4_no_url_reads_a_file_outside(server, measured):
    page = server.files["/index.html"].content
    urls = list(outside_paths())
    assert len(urls) > 150
    for url in urls:
        request = (
            f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nConnection:"
            " close\r\n\r\n"
        )
        answer = raw(server, request.encode())
        assert status(answer) == 404 or answer.endswith(page), url
    measured(
        "S4",
        f"{len(urls)} URL forms: 0 bytes from outside",
        "200 URL forms, 0 bytes from outside",
    )


def test_s4_models_are_names_never_paths(server):
    for name in ("../x", "/etc", "runs/a", "by hand/", "."):
        code, _, answer = ask(server, "/api/inspect", {"text": "ab", "model": name})
        assert code == 400
        assert "unknown model" in answer["error"]["message"]


def test_s10_large_body_is_refused_before_it_is_read(server, measured):
    head = post_head(server, "inspect")
    assert (
        status(raw(server, f"{head}Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode())) == 413
    )
    assert status(raw(server, f"{head}Content-Length: {'9' * 5000}\r\n\r\n".encode())) == 413
    for length in ("-1", "1e3", "x", "+5"):
        assert status(raw(server, f"{head}Content-Length: {length}\r\n\r\n".encode())) == 411
    assert status(raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())) == 411
    measured("S10", "413 before the body is read; 411 without a length", "413 before reading")


def test_s10_text_longer_than_the_context_is_an_error(server, measured):
    code, _, answer = ask(server, "/api/inspect", {"text": "a" * 16})
    assert code == 400
    assert answer["error"]["code"] == "context_length_exceeded"
    assert "has 16 tokens, and the model reads 15; delete 1 tokens" in answer["error"]["message"]
    measured(
        "S10",
        "400 context_length_exceeded, with the number of tokens to delete",
        "400, never truncated",
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(REQUESTS)),
    st.dictionaries(st.sampled_from(sorted(FIELDS)), JSON, max_size=6),
)
def test_s11_any_json_is_answered_without_a_server_error(server, name, body):
    code, _, answer = ask(server, f"/api/{name}", {"text": TEXT, **body})
    assert code in (200, 400)
    if code == 400:
        assert {"message", "type", "code"} == answer["error"].keys()


@pytest.mark.parametrize("value", [{}, {"a": 1}, [], "1"])
@pytest.mark.parametrize("name", ["complete", "tree"])
def test_s11_sampler_setting_that_is_not_a_number_is_a_400(server, name, value):
    body = {"text": TEXT, "position": 9, "kind": "sample", "repetition_penalty": value}
    code, _, answer = ask(server, f"/api/{name}", body)
    assert code == 400
    assert "repetition_penalty" in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 1000,
        b'{"text":NaN}',
        b'{"position":1e400}',
        b'{"text":1,"text":2}',
        b'{"text":"\\ud800"}',
        b'{"layer":true}',
        b'{"text":"a","layer":9e99}',
        b'{"text":"a","without":["9.9"]}',
        b'{"text":"a","without":"1.0"}',
        b'{"text":"a","swap":[[0]]}',
        b'{"text":"a","swap":[[0,99]]}',
        b'{"text":"a","step":3}',
        b'{"text":""}',
        b'{"text":"\\u0000"}',
    ],
)
def test_s11_invalid_json_is_a_400(server, body):
    code, _, answer = ask(server, "/api/attention", raw=body)
    assert code == 400
    assert answer["error"]["message"]


@pytest.mark.slow
def test_s11_requests_of_schemathesis_get_the_answers_that_are_described(server, measured):
    """Request bodies that the server's OpenAPI document allows, and invalid ones."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    from schemathesis.specs.openapi import checks

    document = ask(server, "/openapi.json", method="GET")[2]
    sent = 0

    def check(case):
        nonlocal sent
        sent += 1
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{server.server_port}",
            headers={"Authorization": f"Bearer {SECRET}"},
            checks=[
                schemathesis.checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    for operation in schemathesis.openapi.from_dict(document).get_all_operations():
        for mode in schemathesis.GenerationMode:
            cases = operation.ok().as_strategy(generation_mode=mode)
            settings(max_examples=30, deadline=None)(given(cases)(check))()
    assert sent > 500
    measured("S11", f"{sent} requests by schemathesis: 0 server errors", "500, 0 x 5xx")


def test_s12_error_inside_a_request_leaves_the_server_working(server, monkeypatch):
    def broken(*args):
        raise RuntimeError("injected")

    monkeypatch.setitem(server.routes, "/api/logits", broken)
    for _ in range(20):
        code, _, answer = ask(server, "/api/logits", {"text": TEXT, "position": 1})
        assert (code, answer["error"]["type"]) == (500, "server_error")
    assert ask(server, "/api/inspect", {"text": TEXT})[0] == 200


def test_s12_error_in_a_stream_is_its_last_event(server, monkeypatch, measured):
    def failing(body):
        yield {"text": "a"}
        raise RuntimeError("injected")

    monkeypatch.setitem(server.routes, "/api/complete", failing)
    for _ in range(20):
        code, _, answer = ask(server, "/api/complete", {})
        events = [
            json.loads(line.removeprefix("data: "))
            for line in answer.decode().strip().split("\n\n")
        ]
        assert code == 200
        assert events[0] == {"text": "a"}
        assert "injected" in events[1]["error"]["message"]
    monkeypatch.undo()
    answer = ask(server, "/api/complete", {"text": TEXT, "max_tokens": 3, "temperature": 0})[2]
    assert '"text":"d"' in answer.decode()
    measured(
        "S12",
        "20 of 20 streams end with an error event; the next request works",
        "error event, then close",
    )


def test_s12_disconnected_client_ends_the_generation(server, monkeypatch):
    closed = []

    def endless(body):
        try:
            while True:
                yield {"text": "a" * 1000}
        finally:
            closed.append(True)

    monkeypatch.setitem(server.routes, "/api/complete", endless)
    body = b"{}"
    head = post_head(server, "complete")
    with socket.create_connection(
        ("127.0.0.1", server.server_port), timeout=PATIENCE_SECONDS
    ) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        connection.recv(1000)
    wait_until(lambda: closed, "the end of the generation")
    assert ask(server, "/api/ping", {})[0] == 200
