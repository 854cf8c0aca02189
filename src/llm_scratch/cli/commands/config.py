"""`config`: list the presets, or print one as commented YAML.

Tests: tests/cli/test_config.py.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from tyro.conf import Positional

from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, table
from llm_scratch.config import dump_config, to_dict
from llm_scratch.formatting import format_count
from llm_scratch.presets import PRESETS, preset


@dataclass(frozen=True)
class Config(ReportCommand):
    """List the presets, or print the settings of PRESET as YAML for `train --config`.

    examples:
      llm-scratch config
      llm-scratch config quickstart > mine.yaml
    """

    preset: Positional[Annotated[str, option("PRESET", help=", ".join(PRESETS))]] = ""

    def run(self) -> None:
        """Print the list, or the YAML."""
        if self.json:
            if self.preset:
                print_json({"preset": self.preset, "config": to_dict(preset(self.preset))})
            else:
                print_json({"presets": _presets_json()})
            return
        if self.preset:
            print(commented_yaml(self.preset), end="")
            return
        grid = table("preset", "params", "what it is")
        grid.columns[2].justify = "left"
        for name, make in PRESETS.items():
            params = make().model.n_params
            grid.add_row(name, format_count(params), summary(make))
        grid.add_row(
            "text PATH",
            "any",
            "Your own text: settings are chosen for the text, this machine and the time.",
        )
        console().print(grid)


def _presets_json() -> list[dict[str, Any]]:
    """The presets of `config --json`."""
    return [
        {"name": name, "parameters": make().model.n_params, "description": summary(make)}
        for name, make in PRESETS.items()
    ]


def summary(make: Any) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(make) or "").partition("\n\n")[0].split())


def commented_yaml(name: str) -> str:
    """The settings of a preset as YAML, each with description, type and default as a comment."""
    config = preset(name)
    about = descriptions(config)
    section = ""
    lines = [f"# {name}: {summary(PRESETS[name])}" if name in PRESETS else ""]
    for line in dump_config(config).splitlines():
        key = line.strip().partition(":")[0]
        if not line.startswith(" "):
            section = key
        note = about.get(f"{section}.{key}" if line.startswith(" ") else key)
        lines.append(f"{line:<31} # {note}" if note else line)
    return "\n".join(lines) + "\n"


def descriptions(config: Any, prefix: str = "") -> dict[str, str]:
    """Name of each setting -> description, type and default: "peak learning rate (float, 0.01)"."""
    notes: dict[str, str] = {}
    hints, texts = get_type_hints(type(config)), _texts(type(config))
    for setting in fields(config):
        value, name = getattr(config, setting.name), prefix + setting.name
        if is_dataclass(value):
            notes.update(descriptions(value, f"{name}."))
        else:
            default = (
                yaml.safe_dump(setting.default, default_flow_style=True)
                .removesuffix("...\n")
                .strip()
            )
            notes[name] = f"{texts[setting.name]} ({kind_of(hints[setting.name])}, {default})"
    return notes


def kind_of(hint: Any) -> str:
    """A type in words: int, `int or null`, `auto | yes | no`, `float, float`."""
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if get_args(hint):
        between = ", " if get_origin(hint) is tuple else " or "
        return between.join(
            "null" if part is NoneType else kind_of(part) for part in get_args(hint)
        )
    return hint.__name__


def _texts(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass, from the source: Python discards it."""
    inherited = {
        name: text
        for base in cls.__bases__
        if is_dataclass(base)
        for name, text in _texts(base).items()
    }
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(cls)).body
        if isinstance(node, ast.ClassDef)
    )
    return inherited | {
        line.target.id: " ".join(ast.literal_eval(text.value).split())
        for line, text in zip(body, body[1:])
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(text, ast.Expr)
    }
