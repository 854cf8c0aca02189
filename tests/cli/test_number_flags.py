"""Numeric flags reject values out of range in one line, before any work."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest

from llm_scratch.cli import COMMANDS
from llm_scratch.cli.flags import check_numbers
from llm_scratch.ranges import RANGES, OutOfRange, range_of

EXTREMES = ["nan", "inf", "-1", "0", "1" + "0" * 30, "1e-320"]


def number_flags(cls: Any, prefix: str = "--") -> list[tuple[str, str]]:
    """(flag, setting) of each numeric field."""
    found = []
    for name, hint in get_type_hints(cls).items():
        kinds = {hint, *get_args(hint)}
        if is_dataclass(hint):
            found += number_flags(hint, f"{prefix}{name}.")
        elif kinds & {int, float} and bool not in kinds:
            found.append((f"{prefix}{name.rstrip('_').replace('_', '-')}", name))
    return found


def command(verb: str) -> Any:
    module, _, name = COMMANDS[verb][0].rpartition(".")
    return getattr(import_module(f"llm_scratch.cli.{module}"), name)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_number_flag_has_a_range(verb):
    cls = command(verb)
    without = [flag for flag, name in number_flags(cls) if range_of(name, cls.__name__) is None]
    assert without == []


WORDS = {
    "generate": (
        ["{run}", "the", "--max-tokens", "2"],
        [name for _, name in number_flags(command("generate"))],
    ),
    "memorization": (
        ["{run}", "--samples", "2", "--max-tokens", "5", "--window", "3"],
        ["samples", "max_tokens", "window", "prefix_tokens", "seed"],
    ),
    "compare-decoding": (["{run}", "the", "--max-tokens", "2"], ["max_tokens", "seed"]),
    "train": (
        ["shakespeare", "--print-config", "--data.source", "file:{text}"],
        [name for _, name in number_flags(command("train"))],
    ),
    "import": (["{text}", "--out", "imported"], ["heads", "drop_rate"]),
    "tokenizer train": (["stories:20", "--vocab-size", "260"], ["vocab_size", "workers"]),
    "data prepare": (
        ["{text}", "--out", "shards", "--tokenizer", "bpe", "--vocab-size", "260"],
        ["vocab_size", "workers"],
    ),
}
DECODER = {
    "beams": "beam",
    "length_penalty": "beam",
    "candidates": "contrastive",
    "alpha": "contrastive",
    "draft_tokens": "lookup",
}
LONG = {
    ("memorization", "samples"),
    ("generate", "max_tokens"),
    ("generate", "samples"),
    ("compare-decoding", "max_tokens"),
}  # large numbers take long


@pytest.mark.parametrize(
    ("verb", "name"), [(verb, name) for verb, (_, names) in WORDS.items() for name in names]
)
def test_extreme_numbers_work_or_are_rejected_in_one_line(verb, name, llm, trained_once, text_file):
    words, _ = WORDS[verb]
    flag = next(flag for flag, setting in number_flags(command(verb)) if setting == name)
    given = [word.format(run=trained_once, text=text_file) for word in words]
    given = (
        [*given, "--decoder", DECODER[name]] if verb == "generate" and name in DECODER else given
    )
    for value in EXTREMES:
        values = [value, value] if name == "betas" else [value]
        result = llm(*verb.split(), *given, flag, *values)
        lines = [
            line
            for line in result.err.splitlines()
            if line.startswith("llm-scratch: ") and "warning" not in line
        ]
        assert "bug" not in result.err
        assert len(lines) == (result.code != 0)
        if result.code and "out of range" in lines[0]:
            assert lines[0].startswith(f"llm-scratch: {flag}: ")
            assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(
    "name",
    ["temperature", "top_p", "mirostat", "presence_penalty", "seed", "max_tokens", "logit_bias"],
)
def test_chat_rejects_extreme_numbers_and_continues(name, llm, trained_once, monkeypatch):
    lines = iter(
        [*(f"/set {name} {'3=' * (name == 'logit_bias')}{value}" for value in EXTREMES), "/show"]
    )

    def line(_: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", line)
    result = llm("chat", trained_once)
    assert result.code == 0
    assert "bug" not in result.err
    assert "temperature" in result.out.rpartition("model")[2]  # the last command was reached
    assert "is out of range; give " in result.err or "expected a whole number" in result.err


def test_check_numbers_checks_every_field():
    cls = command("compare-decoding")
    with pytest.raises(OutOfRange, match="seed: -1"):
        check_numbers(cls("run", "prompt", seed=-1))
    assert {"seed", "max_tokens"} <= {f.name for f in fields(cls)} & set(RANGES)
