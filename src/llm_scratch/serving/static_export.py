"""Write the playground as a folder that opens without a server: page and recorded answers.

Browsers refuse ES modules from `file://`, so the modules are put into one script: each becomes a
function, in the order of their imports. The answers are recorded by making the requests that the
page would make; a test opens the folder and visits every view.
Tests: tests/serving/test_static_export.py.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from llm_scratch.serving.http_server import LocalServer, StaticFile
from llm_scratch.storage.files import atomic_write

IMPORT = re.compile(
    r'^import (?:\{ (?P<names>[^}]+) \}|\* as (?P<all>\w+)) from "(?P<path>[^"]+)";$', re.MULTILINE
)
EXPORT = re.compile(
    r"^export (?=(?:async )?(?:function\*?|const|class) (?P<name>\w+))", re.MULTILINE
)
STYLE_TAG = '<link rel="stylesheet" href="style.css">'
SCRIPT_TAG = '<script type="module" src="main.js"></script>'
"""What loads the style and the modules in index.html."""
Body = dict[str, Any]
Ask = Callable[[str, Body], Any]


def export_playground(server: LocalServer, folder: Path) -> Path:
    """Write the page and the answers of `server` into a folder; returns the page.

    Raises:
        UserError: the folder cannot be written (code 6).
    """
    answers: dict[str, Any] = {}

    def ask(path: str, body: Body) -> Any:
        name = (
            f"{path} {json.dumps(body, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"
        )
        if name not in answers:
            answers[name] = json.loads(server.routes[f"/api/{path}"](body))
        return answers[name]

    record(ask)
    page, script = page_parts(server.files)
    scripts = "".join(f'<script defer src="{name}"></script>' for name in ("answers.js", "page.js"))
    atomic_write(
        folder / "answers.js",
        "globalThis.RECORDED ="
        f" {json.dumps(answers, ensure_ascii=False, separators=(',', ':'))};\n",
    )
    atomic_write(folder / "page.js", script)
    atomic_write(folder / "index.html", page.replace("</head>", f"{scripts}</head>"))
    return folder / "index.html"


def page_parts(files: Mapping[str, StaticFile]) -> tuple[str, str]:
    """The page with its style and without a script, and the script of all its modules."""
    page = files["/index.html"].content.decode()
    style = files["/style.css"].content.decode()
    page = page.replace(STYLE_TAG, f"<style>{style}</style>").replace(SCRIPT_TAG, "")
    return page, bundle(module_sources(files))


def module_sources(files: Mapping[str, StaticFile]) -> dict[str, str]:
    """The page's modules: path below the page -> source."""
    return {name[1:]: file.content.decode() for name, file in files.items() if name.endswith(".js")}


def bundle(sources: Mapping[str, str]) -> str:
    """One classic script of ES modules, in the forms of `IMPORT` and `EXPORT`.

    Raises:
        ValueError: a module uses another form.
    """
    graph = {
        name: {_resolved(name, match["path"]) for match in IMPORT.finditer(source)}
        for name, source in sources.items()
    }
    script = ['"use strict";', "const modules = {};"]
    for name in TopologicalSorter(graph).static_order():
        exported = EXPORT.findall(sources[name])
        body = EXPORT.sub("", IMPORT.sub(partial(_as_constant, name), sources[name]))
        if left := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
            raise ValueError(f"{name}: cannot be bundled: {left[0]}")
        script.append(
            f"(() => {{ // {name}\n{body}\nmodules[{json.dumps(name)}] = {{ {', '.join(exported)}"
            " };\n})();"
        )
    return "\n".join(script) + "\n"


def _resolved(importer: str, path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(importer), path))


def _as_constant(importer: str, match: re.Match[str]) -> str:
    names = match["all"] or f"{{ {match['names']} }}"
    return f"const {names} = modules[{json.dumps(_resolved(importer, match['path']))}];"


def record(ask: Ask) -> None:
    """Make the requests of the views about the first text: every token, step and part."""
    facts = ask("start", {})
    text = facts["first"]["text"]
    n_tokens = len(ask("inspect", {"text": text})["tokens"])
    ask("tokenize", {"text": text})
    if other := facts["first"]["other"]:
        point = {name: facts["first"][name] for name in ("position", "candidate")}
        ask("patch", {"text": text, **point, "other": other})
    for position in range(n_tokens):
        for about in _moments(facts, text):
            _record_token(ask, facts, about, position, everything=position == n_tokens - 1)
    if facts["stories"]:
        ask("head-skills", {})


def _moments(facts: Mapping[str, Any], text: str) -> Iterator[Body]:
    """The model as it is, at each step of its training, and without the head that matters."""
    yield {"text": text}
    for step in facts["steps"]:
        yield {"text": text, "step": step}
    yield {"text": text, "without": [f"{facts['first']['layer']}.{facts['first']['head']}"]}


def _record_token(
    ask: Ask, facts: Mapping[str, Any], about: Body, position: int, everything: bool
) -> None:
    """The requests about a token at a moment; `everything` only for the last, to keep it small."""
    inspect = ask("inspect", about)
    last = len(inspect["tokens"]) - 1
    if position < last:
        ask("logits", {**about, "position": position})
    whole = "step" not in about and "without" not in about
    if not (whole or everything):
        return
    candidate = (
        facts["first"]["candidate"] if position == last else inspect["tokens"][position + 1]["id"]
    )
    point = {"position": position, "candidate": candidate}
    for layer in range(facts["layers"]):
        ask("attention", {**about, "layer": layer})
    ask("flow", {**about, **point})
    ask("ablate", {**about, **point})
    ask("continue", about)
    if facts["stories"]:
        ask("skills", about)
    for kind in facts["lenses"] if whole else ["norm"]:
        ask("lens", {**about, "kind": kind})
        for layer in range(facts["layers"] + 1) if everything else [facts["layers"]]:
            ask("lens-cell", {**about, "kind": kind, "layer": layer, "position": position})
    if whole:
        _record_others(ask, facts, about, point, position, everything)


def _record_others(
    ask: Ask, facts: Mapping[str, Any], about: Body, point: Body, position: int, everything: bool
) -> None:
    """The tokens that follow, the film, and the models to compare with."""
    ask("tree", {**about, "position": position, "kind": "beam"})
    ask("tree", {**about, "position": position, "kind": "sample", "seed": 1})
    if everything:
        heads = [
            (layer, head) for layer, count in enumerate(facts["heads"]) for head in range(count)
        ]
    else:
        heads = [(facts["first"]["layer"], facts["first"]["head"])]
    for layer, head in heads if facts["steps"] else []:
        ask("film", {**about, **point, "layer": layer, "head": head})
    for name in facts["models"][1:] if everything else []:
        ask("inspect", {**about, "model": name})
        ask("logits", {**about, "model": name, "position": position})
        ask("continue", {**about, "model": name})
    for step in facts["steps"] if everything else []:
        ask("logits", {**about, "step": step, "position": position})
