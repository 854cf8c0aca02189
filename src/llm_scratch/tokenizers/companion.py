"""What a tokenizer.json leaves out: the tokens that end a text, and how a chat is written.

They are in `tokenizer_config.json`, as Hugging Face has it; a chat template may also be a file of
its own, `chat_template.jinja`. A template is a program: it is kept and written again, never run.
Further tokens that end a text are in Hugging Face's generation_config.json instead (`hf_generation`
in interop); a run keeps them here, under a key of our own.
Tests: tests/tokenizers/test_library.py.
Source: https://huggingface.co/docs/transformers, "Chat templates".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from llm_scratch.errors import DATA, UserError
from llm_scratch.storage.files import atomic_write
from llm_scratch.storage.safe_parse import read_json

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
OTHER_ENDS = "llm_scratch_other_ends"
MAX_TEMPLATE = 1 << 20  # bytes


class Described(Protocol):
    """A tokenizer whose ends of text and chat template are not in its tokenizer.json."""

    end_of_text: str
    chat_template: str | None
    other_ends: tuple[str, ...]
    special_tokens: dict[str, int]


def read_companion(tokenizer: Described, folder: str | Path) -> None:
    """Set a tokenizer's ends of text and chat template from the files of a folder, if there.

    Raises:
        UserError: a file is damaged (code 3).
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG, DATA) if (folder / CONFIG).is_file() else {}
    eos = _content(config.get("eos_token"))
    if eos in tokenizer.special_tokens:
        tokenizer.end_of_text = eos
    others = config.get(OTHER_ENDS)
    if isinstance(others, list):
        tokenizer.other_ends = tuple(name for name in others if name in tokenizer.special_tokens)
    template = config.get("chat_template")
    if (path := folder / TEMPLATE).is_file():
        if (size := path.stat().st_size) > MAX_TEMPLATE:
            raise UserError(f"{path} has {size:,} bytes; expected at most {MAX_TEMPLATE:,}", DATA)
        template = path.read_text(encoding="utf-8", errors="replace")
    if isinstance(template, list):  # older files have several, by name
        named = [each for each in template if isinstance(each, dict)]
        template = next((x.get("template") for x in named if x.get("name") == "default"), None)
    tokenizer.chat_template = template if isinstance(template, str) else None


def write_companion(tokenizer: Described, folder: str | Path) -> None:
    """Write them for a run, as `read_companion` reads them."""
    values = {
        "eos_token": tokenizer.end_of_text,
        OTHER_ENDS: [*tokenizer.other_ends],
        "chat_template": tokenizer.chat_template,
    }
    set_values = {name: value for name, value in values.items() if value}
    atomic_write(Path(folder) / CONFIG, json.dumps(set_values, ensure_ascii=False, indent=1) + "\n")


def _content(token: Any) -> str:
    """The text of a token in tokenizer_config.json, where it may be an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""
