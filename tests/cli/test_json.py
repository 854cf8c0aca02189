"""`--json` of every command: one JSON object per line on stdout, with the keys of docs/json.md."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_scratch.cli import COMMANDS
from llm_scratch.cli.flags import ReportCommand
from llm_scratch.cli.output import output_mode, print_json, to_json
from llm_scratch.cli.result_json import skills_json
from llm_scratch.config import RunConfig
from llm_scratch.evaluation.skill_results import SkillResults, SkillScore

TINY_GPT2 = Path(__file__).parents[1] / "interop" / "tiny_gpt2"
"""a model with a byte-level BPE"""
DOC = Path(__file__).parents[2] / "docs" / "json.md"

CASES: dict[str, str] = {
    "evaluate RUN": "evaluate {run}",
    "inspect RUN PROMPT": "inspect {run} the --ablate 0.1+0.mlp",
    "memorization RUN": (
        "memorization {run} --samples 2 --max-tokens 8 --window 4 --prefix-tokens 4"
    ),
    "plan PRESET": "plan {plan}",
    "plan RUN": "plan {run}",
    "generate RUN": "generate {run} the --max-tokens 3 --samples 2 --seed 5",
    "compare-decoding RUN PROMPT": "compare-decoding {run} the --max-tokens 2 --samples 1",
    "tokenizer show": "tokenizer show {run} the",
    "tokenizer compare": "tokenizer compare the --source file:{text} --vocab-size 260",
    "data list": "data list",
    "data show SOURCE": "data show stories:3",
    "data show shards:FOLDER": "data show shards:{shards}",
    "data check": "data check {shards}",
    "quantize RUN": "quantize {run} --out {new}",
    "export hf": "export hf {run} {new}",
    "export gguf": "export gguf {gpt2} {new}.gguf",
    "plot RUN": "plot {run} --out {new}.png",
    "report RUN": "report {run}",
    "play RUN": "play {run} --export {new}",
    "runs list": "runs list {runs}",
    "runs show RUN": "runs show {run}",
    "learn list": "learn list",
    "learn check ID": "learn check 0.1 (1,)",
    "learn parts FILE": "learn parts {parts}",
    "learn handout FOLDER": "learn handout {new} anna",
    "learn grade FOLDER": "learn grade {runs}",
    "explain": "explain loss",
    "config": "config",
    "config PRESET": "config quickstart",
    "doctor": "doctor",
    "runs diagnose": "runs diagnose {run}",
    "compare PRESET": "compare {run} train.lr=0.001 train.lr=0.002 --seeds 2 --out {new}",
    "experiment run FILE": "experiment run {experiment}/experiment.yaml --out {experiment}",
    "experiment report FOLDER": "experiment report {experiment}",
    "experiment scaling FILE": "experiment scaling {sizes} --out {new}",
    "experiment transfer FILE": "experiment transfer {transfer} --out {new}",
    "experiment game": "experiment game --base {run} --out {game} --predict 1.5 --best-width 8",
    "experiment plan FILE": "experiment plan {experiment}/experiment.yaml",
}
"""heading of docs/json.md -> the command line that is tried"""


def documented() -> dict[str, dict[str, set[str]]]:
    """Return the documented keys for each heading of docs/json.md, by path of the object.

    The path "" is the document itself.
    """
    found: dict[str, dict[str, set[str]]] = {}
    for section in re.split(r"^## ", DOC.read_text(encoding="utf-8"), flags=re.M)[1:]:
        heading, _, body = section.partition("\n")
        keys: dict[str, set[str]] = {}
        for path in re.findall(r"^\| `([^`]+)` \|", body, re.M):
            parent, _, key = path.rpartition(".")
            keys.setdefault(parent, set()).add(key.removesuffix("[]"))
        if same := re.search(r"^The keys of `([^`]+)`\.$", body, re.M):
            keys = found[same[1]]
        if keys:
            found[heading.strip().replace("`", "")] = keys
    return found


def keys_of(value: Any, path: str = "", whole: Iterable[str] = ()) -> dict[str, set[str]]:
    """Return the keys of each object inside a value, by path.

    Objects at the paths in `whole` are not searched.
    """
    found: dict[str, set[str]] = {}
    if isinstance(value, dict) and path not in whole:
        found[path] = set(value)
        for key, item in value.items():
            found |= keys_of(item, f"{path}.{key}" if path else key, whole)
    elif isinstance(value, list):
        for item in value:
            for inside, keys in keys_of(item, f"{path}[]", whole).items():
                found[inside] = found.get(inside, keys) | keys
    return found


FREE_KEYS = {"config", "findings"}
"""Objects whose keys are the user's settings or the names of what was found."""


def write_metrics(config: RunConfig, folder: Path, **more: Any) -> None:
    """Stub of training: write the files of a run whose loss depends on its rate and seed."""
    folder.mkdir(parents=True)
    loss = (
        1
        + config.train.lr
        + 1e-4 * config.train.seed**2
        + 1 / config.model.emb_dim
        + 9 / config.train.steps
    )
    row = {"step": 4, "tokens": 99 * config.train.steps, "val_bits_per_byte": loss, "elapsed": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")


def write_sizes(path: Path, base: Path) -> None:
    """A grid of three sizes, and a run to predict."""
    sizes = [f"  {width}: [model.emb_dim={width}]\n" for width in (8, 16, 32)]
    path.write_text(
        f"base: {base}\nsizes:\n{''.join(sizes)}flops: [1e7, 3e7, 1e8]\npredict: {{size:"
        " [model.emb_dim=64], flops: 4e8}\n"
    )


def write_transfer(path: Path, base: Path) -> None:
    """Two widths and three rates of one arm."""
    path.write_text(
        f"base: {base}\nwidths: [8, 16]\nrates: [0.001, 0.002, 0.004]\narms: {{plain: []}}\n"
        "seeds: 2\nbudget: {tokens: 320}\n"
    )


@pytest.fixture
def fill(llm, tiny, trained, text_file, tmp_path, monkeypatch):
    """Return a command line of `CASES` as arguments, and create the files that it needs."""
    monkeypatch.chdir(tmp_path)

    def make(line: str) -> list[str]:
        if "{shards}" in line:
            prepared = llm(
                "data",
                "prepare",
                text_file,
                "--out",
                "shards",
                "--tokenizer",
                "chars",
                "--workers",
                1,
            )
            assert prepared.code == 0, prepared.err
        if line.startswith(("compare", "experiment")):
            pytest.importorskip("scipy", reason="needs scipy (extra `experiments`)")
            monkeypatch.setattr("llm_scratch.experiments.runner.train", write_metrics)
            monkeypatch.setattr("gc.collect", lambda: 0)
        if line.startswith("export gguf"):
            pytest.importorskip("gguf", reason="needs gguf (extra `gguf`)")
        if "{experiment}" in line:
            made = llm(
                "compare",
                trained,
                "train.lr=0.001",
                "train.lr=0.002",
                "--seeds",
                2,
                "--out",
                "experiment",
            )
            assert made.code == 0, made.err
        if line.startswith("learn check"):
            llm("learn", "next", "0.1")  # draws the numbers
        if "{sizes}" in line:
            write_sizes(Path("sizes.yaml"), trained)
        if "{transfer}" in line:
            write_transfer(Path("transfer.yaml"), trained)
        if "{game}" in line:
            game = ("experiment", "game", "--base", trained, "--out", "game")
            bought = llm(*game, "--width", 8, "--tokens", 64)
            assert bought.code == 0, bought.err
        words = {
            "game": "game",
            "run": trained,
            "gpt2": TINY_GPT2,
            "sizes": "sizes.yaml",
            "transfer": "transfer.yaml",
            "experiment": "experiment",
            "text": text_file,
            "parts": DOC.with_name("own_parts_example.py"),
            "new": tmp_path / "new",
            "runs": tmp_path,
            "shards": "shards",
        }
        return [
            part
            for word in line.split()
            for part in (tiny[1:] if word == "{plan}" else [word.format(**words)])
        ]

    return make


@pytest.mark.parametrize("heading", CASES)
def test_stdout_is_json_with_the_documented_keys(heading, llm, fill):
    words = fill(CASES[heading])
    result = llm(*words, "--json")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert len(lines) == (2 if heading.startswith("generate") else 1)
    expected = documented()[heading]
    for line in lines:
        value = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert keys_of(value, whole=FREE_KEYS) == expected
        assert all(
            re.fullmatch(r"[a-z][a-z0-9_]*", key) for keys in expected.values() for key in keys
        )


def test_every_command_with_json_is_documented_and_tried():
    assert set(documented()) == set(CASES)
    for name, (place, _) in COMMANDS.items():
        module, _, cls = place.rpartition(".")
        command = getattr(import_module(f"llm_scratch.cli.{module}"), cls)
        assert (issubclass(command, ReportCommand)) == any(
            line.startswith(name + " ") or line == name for line in CASES.values()
        ), name
        assert "quiet" in {field.name for field in fields(command)}


def test_json_error_leaves_stdout_empty(llm):
    result = llm("runs", "show", "nowhere", "--json")
    assert (result.code, result.out) == (4, "")
    assert "no run 'nowhere'" in result.err


def test_json_notes_go_to_stderr(capsys):
    with output_mode(as_json=True, quiet=False):
        print("a hint")
        print_json({"a": 1})
    assert capsys.readouterr() == ('{"a": 1}\n', "a hint\n")


def test_json_writes_non_finite_numbers_as_null():
    values = {
        "nan": math.nan,
        "inf": [-math.inf],
        "float": np.float32(0.5),
        "int": np.int64(3),
        "path": Path("a"),
        "odd": "\ud800",
    }
    assert to_json(values) == {
        "nan": None,
        "inf": [None],
        "float": 0.5,
        "int": 3,
        "path": "a",
        "odd": "?",
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--temperature", 0, "--max-tokens", 3], "length"),
        (["--regex", "e+", "--stop", "e"], "stop"),
        (["--context-overflow", "stop", "--regex", "[a-z ]{99}"], "context"),
        (["--regex", "[a-z ]"], "end_of_text"),
        (["--decoder", "beam", "--max-tokens", 2], "length"),
        (["--decoder", "contrastive", "--context-overflow", "stop"], "context"),
    ],
)
def test_generate_reports_why_a_text_ended(words, reason, llm, trained):
    if "--regex" in words:
        pytest.importorskip("llguidance", reason="needs the extra `constrain`")
    sample = json.loads(llm("generate", trained, "the h", "--json", *words).out)
    assert sample["stop_reason"] == reason


def test_generate_gives_the_text_and_the_seed_of_each_sample(llm, trained):
    lines = llm(
        "generate", trained, "the", "--max-tokens", 4, "--samples", 2, "--seed", 5, "--json"
    ).out.splitlines()
    for line, seed in zip(lines, (5, 6), strict=True):
        sample = json.loads(line)
        assert (sample["prompt"], sample["tokens"], sample["stop_reason"], sample["seed"]) == (
            "the",
            4,
            "length",
            seed,
        )
        again = llm("generate", trained, "the", "--max-tokens", 4, "--seed", seed).out
        assert again == f"the{sample['text']}\n"


def test_show_probs_and_json_exclude_each_other(llm, trained):
    result = llm("generate", trained, "the", "--json", "--show-probs")
    assert (result.code, result.out) == (2, "")
    assert "--show-probs: has no effect with --json" in result.err


def test_json_to_a_closed_pipe_has_no_traceback(llm, monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError), output_mode(as_json=True, quiet=False):
        print_json({"a": 1})


def test_skills_have_the_documented_keys():
    results = SkillResults(1.5, 0.5, (SkillScore("name", 0.25, 0.2, 8, math.nan),))
    skills = to_json(skills_json(results))
    assert skills["scores"] == [
        {"skill": "name", "accuracy": 0.25, "accuracy_stderr": None, "chance": 0.2, "questions": 8}
    ]
    line = next(
        line
        for line in DOC.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `skills` |")
    )
    assert {*skills, *skills["scores"][0]} <= set(re.findall(r"`(\w+)`", line))


def test_findings_have_the_documented_keys(llm, trained):
    findings = json.loads(llm("runs", "diagnose", trained, "--json").out)["findings"]
    line = next(
        line
        for line in DOC.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `findings` |")
    )
    documented = set(re.findall(r"`(\w+)`", line)) - {"findings", "problem", "warning", "ok"}
    assert findings
    assert all(set(finding) == documented for finding in findings.values())
