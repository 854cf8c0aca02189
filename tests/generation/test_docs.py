"""docs/decoding.md lists every sampler, penalty and strategy in order, and its code runs."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
import torch

from llm_scratch import loading
from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.generation import sampling, strategies
from llm_scratch.generation.decode import stream
from llm_scratch.generation.penalties import PENALTIES
from llm_scratch.generation.sampling import SAMPLERS, next_token
from llm_scratch.generation.strategies import SAMPLE, STRATEGIES, settings_of
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import CharTokenizer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")


def test_generation_page_tables_list_every_entry_in_order(page):
    rows = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    ways = list(get_args(get_type_hints(DecodingFlags)["decoder"]))
    assert rows == ["regex", "json_schema", *PENALTIES, *SAMPLERS, "mirostat", *ways]


def test_files_named_by_the_generation_page_exist(page):
    names = set(re.findall(r"`(generation/\w+\.py)`", page))
    assert len(names) == 7
    assert all((ROOT / "src" / "llm_scratch" / name).is_file() for name in names)


def test_strategy_flag_lists_every_strategy():
    assert get_args(get_type_hints(DecodingFlags)["decoder"]) == (SAMPLE, *STRATEGIES)
    assert {f.name for f in fields(DecodingFlags)} - {"decoder"} <= set().union(
        *map(settings_of, (SAMPLE, *STRATEGIES))
    )


def test_python_blocks_of_the_page_run(page, monkeypatch, capsys):
    """A custom strategy generates its text; texts of the engine equal those generated alone."""
    torch.manual_seed(1)
    model = GPTModel(
        {
            "vocab_size": 60,
            "context_length": 48,
            "emb_dim": 24,
            "n_heads": 3,
            "n_layers": 1,
            "drop_rate": 0.0,
            "qkv_bias": True,
        }
    )
    tokenizer = CharTokenizer.train("The story of Anna Tom.")
    monkeypatch.setattr(
        loading,
        "load_for_inference",
        lambda where: SimpleNamespace(model=model, tokenizer=tokenizer),
    )
    monkeypatch.setattr(strategies, "STRATEGIES", dict(STRATEGIES))
    section = page[page.index("## From Python") : page.index("## Common to all")]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(block, names)
    out = capsys.readouterr().out
    greedy = "".join(stream(model, tokenizer, "Tom", max_new_tokens=20, temperature=0, stop=["."]))
    assert f"{greedy} (" in out
    assert names["texts"][names["tom"]] == greedy
    alone = "".join(
        stream(model, tokenizer, "The story of Anna", max_new_tokens=10, temperature=0.7, seed=1)
    )
    assert names["texts"][names["anna"]] == alone
    own = "".join(
        stream(
            model, tokenizer, "The story of Anna", strategy="second_best", rank=1, max_new_tokens=20
        )
    )
    assert own == "".join(
        stream(model, tokenizer, "The story of Anna", temperature=0, max_new_tokens=20)
    )


def test_custom_sampler_works(page, monkeypatch):
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
