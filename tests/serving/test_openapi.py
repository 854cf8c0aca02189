"""The OpenAPI document of the server describes its routes."""

import re
from pathlib import Path

from playground_server import ask

import llm_scratch
from llm_scratch.serving.openapi import FIELDS, REQUESTS

SERVING = Path(llm_scratch.__file__).parent / "serving"


def test_every_route_is_described_at_its_address(server):
    code, headers, document = ask(server, "/openapi.json", method="GET")
    assert (code, headers.get_content_type()) == (200, "application/json")
    assert document["paths"].keys() == server.routes.keys()


def test_required_fields_are_missed_and_unknown_ones_do_not_occur(server):
    for name, request in REQUESTS.items():
        assert {*request.required, *request.optional} <= FIELDS.keys()
        for field in request.required:
            body = dict.fromkeys(request.required, 0) | {"text": "abc", "other": "abd"}
            del body[field]
            code, _, answer = ask(server, f"/api/{name}", body)
            assert (code, answer["error"]["message"].split(":")[0]) == (400, field), name


def test_every_field_that_is_read_is_described():
    """The fields that the code reads by `integer(body, ...)`, `string(...)` or `body.get(...)`."""
    read = set()
    for file in SERVING.glob("*.py"):
        source = file.read_text("utf-8")
        read |= set(re.findall(r'(?:integer|string)\(\s*body, "(\w+)"', source))
        read |= set(re.findall(r'body(?:\.get\(|\[)"(\w+)"', source))
    assert len(read) > 12
    assert read - {"path", "id"} <= FIELDS.keys()
