"""The requests of the playground as an OpenAPI document, for scripts and for tests.

The server has it at `/openapi.json`. Positions count the model's start token, if it has one, as 0.
Source: https://spec.openapis.org/oas/v3.1.0.
Tests: tests/serving/test_openapi.py, tests/reliability/test_s_playground_server.py (row S11).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from llm_scratch import __version__
from llm_scratch.serving.question import SAMPLERS

COUNT = {"type": "integer", "minimum": 0}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {name: {"type": "string"} for name in ("message", "type", "code")},
        }
    },
}

FIELDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string", "description": "what the model reads"},
    "other": {"type": "string", "description": "another text with the same number of tokens"},
    "model": {"type": "string", "description": "one of `models` (default: the first)"},
    "step": COUNT | {"description": "one of `steps` of the training (default: finished)"},
    "without": {
        "type": "array",
        "items": {"type": "string", "pattern": r"^\d+\.(\d+|mlp)$"},
        "description": "ablated parts, such as 1.3 (layer.head) and 0.mlp",
    },
    "swap": {
        "type": "array",
        "items": {"type": "array", "items": COUNT, "minItems": 2, "maxItems": 2},
        "description": "tokens that are replaced: [position, id]",
    },
    "position": COUNT | {"description": "the token whose prediction is shown"},
    "candidate": COUNT | {"description": "id of the next token that is followed"},
    "layer": COUNT,
    "head": COUNT,
    "query": COUNT | {"description": "position of the query token"},
    "key": COUNT | {"description": "position of the key token"},
    "kind": {
        "enum": ["norm", "raw", "jacobian", "beam", "sample"],
        "description": "a lens (default: norm), or a tree (default: beam)",
    },
    "tokens": COUNT | {"maximum": 40, "description": "length of the continuation"},
    "max_tokens": COUNT | {"maximum": 400, "description": "length of the completion"},
    "seed": COUNT,
    **dict.fromkeys(SAMPLERS, {"type": ["number", "null"]}),
}
"""field of a request -> its JSON schema"""

ABOUT = ("text", "model", "step", "without", "swap")
"""Fields of every request about a text."""
POINT = ("position", "candidate")
SAMPLING = (*SAMPLERS, "seed")


class Request(NamedTuple):
    """A summary of the answer to a request, and its required and optional fields."""

    summary: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ABOUT


REQUESTS: dict[str, Request] = {
    "start": Request("The model, its vocabulary, and what the page shows first", (), ()),
    "ping": Request("Whether the server is there", (), ()),
    "inspect": Request("Tokens with their surprise, head scores, logits of the last position"),
    "logits": Request("Logits after a position, in float16", ("position",)),
    "attention": Request("Attention weights of the heads of a layer", ("layer",)),
    "dot": Request("How one attention weight is computed", ("layer", "head", "query", "key")),
    "lens": Request("What each layer would predict at each position", (), (*ABOUT, "kind")),
    "lens-cell": Request(
        "The most likely tokens of one layer at one position",
        ("layer", "position"),
        (*ABOUT, "kind"),
    ),
    "flow": Request("What each part adds to the logit of a token", POINT),
    "ablate": Request("The probability of a token without each part", POINT),
    "patch": Request("How far each part of another text carries its answer", (*POINT, "other")),
    "skills": Request("Right answers on each skill of the stories, whole and ablated"),
    "head-skills": Request("How much each skill falls without each part", (), ("model", "step")),
    "continue": Request("The most likely continuation", (), (*ABOUT, "tokens")),
    "tree": Request("The next five tokens", ("position",), (*ABOUT, "kind", *SAMPLING)),
    "film": Request(
        "A prediction and the head scores at every snapshot",
        POINT,
        ("text", "model", "without", "swap", "layer", "head", "key"),
    ),
    "tokenize": Request("How the text became tokens, by several tokenizers", (), ("text",)),
    "complete": Request("A completion, streamed", (), (*ABOUT, "max_tokens", *SAMPLING)),
}
"""name of a route -> its description"""


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document of the playground's requests."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "LLM_Scratch playground", "version": __version__},
        "paths": {f"/api/{name}": {"post": _operation(name)} for name in REQUESTS},
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"secret": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"secret": []}],
    }


def _operation(name: str) -> dict[str, Any]:
    summary, required, optional = REQUESTS[name]
    body = {
        "type": "object",
        "properties": {field: FIELDS[field] for field in (*required, *optional)},
        "required": list(required),
    }
    media = "text/event-stream" if name == "complete" else "application/json"
    error = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "the answer", "content": {media: {"schema": {}}}},
            "4XX": error | {"description": "the request is rejected"},
        },
    }
