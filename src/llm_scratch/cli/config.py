"""The presets, and the settings of one as a YAML file with a word on each. Proof: tests/cli/test_config.py."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

import llm_scratch.config as settings
from llm_scratch.cli.flags import Verb, option
from llm_scratch.cli.terminal import console, table
from llm_scratch.config import dump_config
from llm_scratch.presets import PRESETS, preset


@dataclass(frozen=True)
class Config(Verb):
    """The presets; or all settings of PRESET as YAML, for `train --config`.

    examples:
      llm-scratch config
      llm-scratch config quickstart > mine.yaml
    """

    preset: Positional[Annotated[str, option("PRESET")]] = ""
    """a name of the list"""

    def run(self) -> None:
        """Print the list, or the YAML."""
        if self.preset:
            print(commented(self.preset), end="")
            return
        grid = table("preset", "params", "what it is")
        grid.columns[2].justify = "left"
        for name, make in PRESETS.items():
            params = make().model.n_params
            grid.add_row(name, f"{params / 1e6:.1f} M", (inspect.getdoc(make) or "").split("\n")[0])
        console().print(grid)


def commented(name: str) -> str:
    """A preset's settings as YAML with each setting's description beside it."""
    about, section, lines = descriptions(), "", [f"# {name}: {inspect.getdoc(PRESETS[name]) or ''}" if name in PRESETS else ""]
    for line in dump_config(preset(name)).splitlines():
        key = line.strip().partition(":")[0]
        if not line.startswith(" "):
            section = key
        note = about.get(f"{section}.{key}")
        lines.append(f"{line:<31} # {note}" if note else line)
    return "\n".join(lines) + "\n"


def descriptions() -> dict[str, str]:
    """The text under each field of the config classes, by the setting's name: "train.lr" -> "highest learning rate"."""
    sections = {"ModelConfig": "model", "DataConfig": "data", "TrainConfig": "train"}
    found = {}
    for cls in ast.parse(inspect.getsource(settings)).body:
        if isinstance(cls, ast.ClassDef) and cls.name in sections:
            for field, text in zip(cls.body, cls.body[1:]):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                    found[f"{sections[cls.name]}.{field.target.id}"] = " ".join(ast.literal_eval(text.value).split())
    return found
