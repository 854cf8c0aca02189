"""The reading path for newcomers: each name exists, and README lists them in this order."""

from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

READING_PATH = [
    "data/sources.read",
    "tokenizers/bpe.ByteBPE.encode",
    "data/loader.TokenLoader",
    "model/gpt.GPTModel.forward",
    "model/loss.next_token_loss",
    "storage/checkpoint.save",
    "generation/decode.stream",
]
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize("name", READING_PATH)
def test_reading_path_name_exists(name):
    module, _, attribute = name.partition(".")
    value = attrgetter(attribute)(import_module("llm_scratch." + module.replace("/", ".")))
    assert callable(value)
    assert value.__doc__


def test_readme_lists_the_reading_path_in_order():
    text = README.read_text(encoding="utf-8")
    positions = [text.find(name) for name in READING_PATH]
    assert -1 not in positions, f"README does not name {READING_PATH[positions.index(-1)]}"
    assert positions == sorted(positions)
