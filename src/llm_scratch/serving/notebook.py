"""The playground in a notebook: `show("runs/quickstart")` as the last line of a cell.

The widget shows the page of `llm-scratch play` in a frame, made of the same modules, and its
requests are answered by the notebook's kernel: there is no server and no port.
Tests: tests/serving/test_notebook.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from llm_scratch.errors import UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.run_directory import run_of
from llm_scratch.serving.model_library import ModelLibrary
from llm_scratch.serving.playground import Playground
from llm_scratch.serving.request_guard import RequestError
from llm_scratch.serving.run_texts import loss_curve, opening_texts
from llm_scratch.serving.static_export import page_parts
from llm_scratch.serving.static_files import static_files

log = logging.getLogger(__name__)


def show(source: str | Path, view: str = "attention", text: str = "", height: int = 720) -> Any:
    """A widget with the playground of a model.

    Args:
        source: what `load` takes, such as a run directory.
        view: the view that it begins with, such as "lenses" or "whatif".
        text: the text that it begins with (default: one of the run's own).
        height: of the widget, in CSS pixels.
    Raises:
        UserError: anywidget is not installed; or as `load`.
    """
    widget_class = _widget_class()
    run = run_of(Path(source))
    library = ModelLibrary({Path(source).name or str(source): source})
    playground = Playground(library, opening_texts(run), loss_curve(run))
    chosen = {"view": view} | ({"text": text} if text else {})
    return make_widget(widget_class, playground, urlencode(chosen), height)


def make_widget(widget_class: Any, playground: Playground, opening: str, height: int) -> Any:
    """A widget whose requests a playground answers."""
    page, script = page_parts(static_files())
    widget = widget_class(page=page, script=script, opening=opening, height=height)
    widget.on_msg(lambda widget, content, buffers: widget.send(answer(playground, content)))
    return widget


@cache
def _widget_class() -> Any:
    try:
        anywidget, traitlets = import_module("anywidget"), import_module("traitlets")
    except ModuleNotFoundError as e:
        raise UserError(
            f"the playground in a notebook needs {e.name}; {install_command('notebook')}"
        ) from None
    fields: dict[str, Any] = {
        name: traitlets.Unicode().tag(sync=True) for name in ("page", "script", "opening")
    }
    fields["height"] = traitlets.Int().tag(sync=True)
    fields["_esm"] = files("llm_scratch.serving").joinpath("notebook.js").read_text("utf-8")
    return type("PlaygroundWidget", (anywidget.AnyWidget,), fields)


def answer(playground: Playground, content: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request of the page, {"id", "path", "body"}: its id with "answer" or "error".

    The events of a stream come as a list, when the last is there.
    """
    route = playground.routes.get(f"/api/{content['path']}")
    if route is None:
        return {"id": content["id"], "error": f"path: {content['path']!r} does not exist"}
    try:
        result = route(content["body"])
        if isinstance(result, Generator):
            result = list(result)
    except (UserError, RequestError) as e:
        return {"id": content["id"], "error": str(e)}
    except Exception as e:  # without an answer the page would wait for ever
        log.exception("request %s failed", content["path"])
        problem = f"unexpected {describe_error(e, named=True)}; this is a bug"
        return {"id": content["id"], "error": problem}
    return {
        "id": content["id"],
        "answer": json.loads(result) if isinstance(result, bytes) else result,
    }
