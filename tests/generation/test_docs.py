"""docs/decoding.md: every sampler, penalty and way of writing stands in its tables, in order, and its own sampler works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.generation import sampling
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.generation.sampling import SAMPLERS, next_token

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_the_tables_hold_everything_in_its_order(page):
    rows = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    ways = list(get_args(get_type_hints(DecodingFlags)["decoder"]))
    assert rows == ["constraint", *PENALTIES, *SAMPLERS, "mirostat", *ways]


def test_every_file_that_is_named_is_there(page):
    names = set(re.findall(r"`(generation/\w+\.py)`", page))
    assert len(names) == 7
    assert all((ROOT / "src" / "llm_scratch" / name).is_file() for name in names)


def test_the_sampler_of_ones_own_works(page, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLERS", dict(SAMPLERS))
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
    exec(
        code.replace(
            "from llm_scratch.generation.sampling import SAMPLERS",
            "from llm_scratch.generation import sampling\nSAMPLERS = sampling.SAMPLERS",
        ),
        {},
    )
    assert next_token(torch.tensor([[5.0, 1.0, 0.0]]), top_a=0.9).tolist() == [[0]]
