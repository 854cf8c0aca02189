"""The playground in a notebook: the kernel answers the page's requests."""

import json
import re
import sys
from base64 import b64encode
from importlib.resources import files
from importlib.util import find_spec

import pytest
from effort import wait_until
from playground_server import TEXT, hand_built

from llm_scratch.errors import UserError
from llm_scratch.serving import notebook
from llm_scratch.serving.model_library import ModelLibrary
from llm_scratch.serving.playground import Playground
from llm_scratch.serving.static_export import page_parts
from llm_scratch.serving.static_files import static_files

MODULE = files("llm_scratch.serving").joinpath("notebook.js").read_text("utf-8")


@pytest.fixture(scope="module")
def playground():
    return Playground(ModelLibrary({"by hand": hand_built()}), [TEXT])


def test_notebook_answers_equal_those_of_the_server(playground):
    body = {"text": TEXT, "position": 9, "candidate": 3}
    found = notebook.answer(playground, {"id": "7", "path": "ablate", "body": body})
    assert found == {"id": "7", "answer": json.loads(playground.routes["/api/ablate"](body))}


def test_stream_is_answered_with_all_its_events(playground):
    body = {"text": TEXT, "max_tokens": 3}
    events = notebook.answer(playground, {"id": "7", "path": "complete", "body": body})["answer"]
    assert events == list(playground.complete(body))


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("logits", {"text": TEXT, "position": 99}, "position: '99' is out of range"),
        ("inspect", {"text": TEXT * 3}, "text: has 30 tokens"),
        ("../start", {}, "path: '../start' does not exist"),
    ],
)
def test_request_errors_are_answers(playground, path, body, problem):
    found = notebook.answer(playground, {"id": "7", "path": path, "body": body})
    assert found["id"] == "7"
    assert problem in found["error"]


def test_unexpected_error_is_an_answer_too(playground, monkeypatch, caplog):
    monkeypatch.setattr(playground, "complete", lambda body: 1 / 0)
    found = notebook.answer(playground, {"id": "7", "path": "complete", "body": {}})
    assert found["id"] == "7"
    assert "unexpected ZeroDivisionError" in found["error"]
    assert "request complete failed" in caplog.text


def test_notebook_page_needs_only_its_own_files():
    page, script = page_parts(static_files())
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert not re.search(r"^(?:import|export) ", script, re.MULTILINE)


def test_notebook_error_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    notebook._widget_class.cache_clear()
    with pytest.raises(UserError, match="needs anywidget; pip install anywidget"):
        notebook.show("runs/quickstart")


@pytest.mark.skipif(find_spec("anywidget") is None, reason="needs anywidget: pip install anywidget")
def test_widget_answers_its_messages(playground, monkeypatch):
    widget = notebook.make_widget(notebook._widget_class(), playground, "view=lenses", 500)
    sent = []
    monkeypatch.setattr(widget, "send", sent.append)
    request = {"id": "7", "path": "ping", "body": {}}
    widget._handle_custom_msg(request, [])
    assert sent == [{"id": "7", "answer": {}}]
    assert (widget.opening, widget.height) == ("view=lenses", 500)
    assert "export default" in widget._esm


def test_frame_shows_the_view_that_was_chosen(playground, chromium):
    """The widget in a browser without a notebook: requests in `outbox` are answered here."""
    page, script = page_parts(static_files())
    state = {"page": page, "script": script, "opening": "view=whatif", "height": 700}
    source = b64encode(MODULE.encode()).decode()
    chromium.leave()
    chromium.run(
        f"""import("data:text/javascript;base64,{source}").then((module) => {{
          const render = module.default.render;
          const state = {json.dumps(state)};
          globalThis.outbox = [];
          const on = (name, listener) => (globalThis.deliver = listener);
          const send = (message) => outbox.push(message);
          render({{ model: {{ get: (name) => state[name], on, send }}, el: document.body }});
        }})"""
    )
    frame = "document.querySelector('iframe').contentDocument"

    def is_ready():
        if request := chromium.run("outbox.shift()"):
            answer = json.dumps(notebook.answer(playground, request))
            chromium.run(f"deliver({answer})")
        return chromium.run(f"{frame}.documentElement?.dataset.ready === 'true'")

    wait_until(is_ready, "the page in the frame")
    assert chromium.run(f"{frame}.querySelector('h1').textContent").startswith("What breaks")
    assert "head 0.0" in chromium.run(f"{frame}.querySelector('#view').textContent")
    assert not chromium.problems()
