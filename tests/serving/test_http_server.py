"""Static files, compression, and connections of the server."""

import gzip
import http.client
import json
import socket
from contextlib import closing

import pytest
from effort import PATIENCE_SECONDS
from playground_server import SECRET, TEXT, ask, hand_built

from llm_scratch.errors import UserError
from llm_scratch.serving.playground import open_playground
from llm_scratch.serving.static_files import static_files


def test_page_and_modules_are_served_with_their_types(server):
    kinds = {
        "/": "text/html",
        "/style.css": "text/css",
        "/main.js": "text/javascript",
        "/views/attention.js": "text/javascript",
    }
    for path, kind in kinds.items():
        code, headers, content = ask(server, path, method="GET")
        assert (code, headers.get_content_type()) == (200, kind)
        assert content == static_files()[path].content
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert headers["X-Content-Type-Options"] == "nosniff"


def connect(server):
    """A connection that is closed at the end of a `with` block."""
    return closing(
        http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE_SECONDS)
    )


SENT = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}


def test_answers_are_compressed_where_the_reader_can(server):
    with connect(server) as connection:
        connection.request("POST", "/api/start", b"{}", SENT | {"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        assert answer.headers["Content-Encoding"] == "gzip"
        assert json.loads(gzip.decompress(answer.read()))["name"] == "by hand"
    assert ask(server, "/api/start", {})[1]["Content-Encoding"] is None


def test_malformed_address_is_an_error_of_the_request(server):
    with socket.create_connection(
        ("127.0.0.1", server.server_port), timeout=PATIENCE_SECONDS
    ) as connection:
        connection.sendall(
            f"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "setting",
    [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"typical_p": 1e-6}],
    ids=lambda setting: next(iter(setting)),
)
def test_every_sampler_of_the_page_counts_in_a_completion(server, setting):
    body = {"text": TEXT, "max_tokens": 8, "seed": 3, "temperature": 5.0}
    assert ask(server, "/api/complete", body | setting)[2] != ask(server, "/api/complete", body)[2]


def test_connection_stays_open_after_an_error_of_a_request(server):
    with connect(server) as connection:
        for body, code in ((b"{}", 400), (json.dumps({"text": TEXT}).encode(), 200), (b"[", 400)):
            connection.request("POST", "/api/inspect", body, SENT)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == code
            assert connection.sock is not None


def test_busy_port_is_an_error_that_names_the_way_out(server):
    with pytest.raises(
        UserError, match=f"port {server.server_port}: .* choose another --port, or 0 for a free one"
    ):
        open_playground({"by hand": hand_built()}, [TEXT], port=server.server_port)
