"""The code blocks of CONTRIBUTING.md work from outside the package.

Each extension is one file, one line in a table, and one command.
"""

import re
import shlex
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_scratch.cli import main
from llm_scratch.config import DataConfig, ModelConfig, RunConfig, TrainConfig, load_config
from llm_scratch.data.corpus import prepare
from llm_scratch.data.sources import SOURCES
from llm_scratch.loading import load
from llm_scratch.model import ARCHITECTURES
from llm_scratch.presets import PRESETS
from llm_scratch.storage.checkpoint import list_checkpoints
from llm_scratch.tokenizers import MODEL_TYPES, TOKENIZERS
from llm_scratch.training.loop import train
from llm_scratch.training.optim import OPTIMIZERS
from llm_scratch.training.schedule import SCHEDULES

PAGE = Path(__file__).resolve().parents[2] / "CONTRIBUTING.md"
TABLES = [ARCHITECTURES, TOKENIZERS, MODEL_TYPES, SOURCES, OPTIMIZERS, SCHEDULES, PRESETS]
BLOCK = re.compile(
    r"^### (.+?)\n(?:(?!^###).)*?^```python\n(.*?)^```\n+^```bash\n(llm-scratch .*?)\n```",
    flags=re.M | re.S,
)
EXTENSIONS = {
    title: (code, command)
    for title, code, command in BLOCK.findall(PAGE.read_text(encoding="utf-8"))
}
WORDS = [
    ["old", "new", "red"],
    ["cat", "dog", "owl", "fox"],
    ["mat", "log", "roof", "hill", "gate"],
    ["rain", "summer", "bread", "home"],
]
TEXT = " ".join(f"The {a} {b} and the {c} sang of {d}." for a, b, c, d in product(*WORDS))


@pytest.fixture(autouse=True)
def _outside(tmp_path, monkeypatch):
    """A temporary folder with a text; the registry tables are restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llm_scratch.reports.plot.plot_runs", lambda *args: None)
    monkeypatch.setattr(
        "llm_scratch.cli.run_summary._measure_skills", lambda *args: None
    )  # tested with skills; takes longer than the steps
    Path("text.txt").write_text(TEXT)
    before = [dict(table) for table in TABLES]
    yield
    for table, old in zip(TABLES, before):
        table.clear()
        table.update(old)


def test_contributing_shows_every_kind_of_extension():
    assert list(EXTENSIONS) == [
        "A tokenizer",
        "A source",
        "A part of the model",
        "A model family",
        "An optimizer",
        "A schedule",
        "A preset",
    ]


@pytest.mark.parametrize("title", EXTENSIONS)
def test_contributing_block_trains_resumes_and_generates(title, capsys):
    code, command = EXTENSIONS[title]
    Path("mine.py").write_text(code)
    words = shlex.split(command.replace("\\\n", " "))[1:]
    before = [set(table) for table in TABLES]
    assert main(words) == 0, capsys.readouterr().err
    assert (
        sum(len(set(table) - old) for table, old in zip(TABLES, before))
        == len(re.findall(r"^[A-Z_]+\[", code, flags=re.M))
        >= 1
    )
    run = Path(words[words.index("--out") + 1])
    steps = load_config(run / "config.yaml").train.steps
    assert steps <= 20, "a block is quick"
    assert list_checkpoints(run)[0].name == f"step-{steps:08d}"
    assert main(words) == 0  # finished: there is nothing left to do
    capsys.readouterr()
    assert (
        main(
            [
                "generate",
                str(run),
                "and the",
                "--import",
                "mine.py",
                "--max-tokens",
                "5",
                "--seed",
                "1",
            ]
        )
        == 0
    ), capsys.readouterr().err
    assert capsys.readouterr().out.strip()


def settings(model=(), data=(), **changes):
    return RunConfig(
        ModelConfig.of(
            {"vocab_size": 60, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 1}
            | dict(model)
        ),
        DataConfig(
            **{"source": "file:text.txt", "tokenizer": "chars", "val_fraction": 0.2} | dict(data)
        ),
        TrainConfig(
            **{
                "steps": 3,
                "batch_size": 2,
                "eval_every": 3,
                "eval_batches": 1,
                "save_every": 3,
                "sample_every": 0,
            }
            | changes
        ),
    )


@pytest.mark.parametrize(
    ("title", "model", "data", "changes"),
    [
        ("A tokenizer", {"vocab_size": 257}, {"tokenizer": "bytes"}, {}),
        ("A source", {}, {"source": "counting:80"}, {}),
        ("A part of the model", {"architecture": "squared"}, {}, {}),
        ("A model family", {"architecture": "gated", "hidden_dim": 20, "parallel": True}, {}, {}),
        ("An optimizer", {}, {}, {"optimizer": "lion"}),
        ("A schedule", {}, {}, {"schedule": "late", "steps": 10}),
    ],
)
def test_extensions_work_from_python(title, model, data, changes, tmp_path):
    exec(compile(EXTENSIONS[title][0], "mine.py", "exec"), {"__name__": "mine"})
    config = settings(model, data, **changes)
    run = train(config, tmp_path / "run")
    assert run.step == config.train.steps
    assert load_config(tmp_path / "run" / "config.yaml") == config
    model, tokenizer = load(tmp_path / "run")
    ids = torch.tensor([tokenizer.encode("and an")])
    assert torch.equal(model(ids), run.model.eval()(ids))
    assert type(tokenizer) is type(run.data.tokenizer)
    assert type(model) is type(run.model)


def test_run_with_a_custom_model_requires_the_import_flag(tmp_path, capsys):
    exec(compile(EXTENSIONS["A part of the model"][0], "mine.py", "exec"), {"__name__": "mine"})
    train(settings({"architecture": "squared"}), tmp_path / "run")
    del ARCHITECTURES["squared"]
    assert main(["generate", "run", "The"]) == 2
    printed = capsys.readouterr().err
    assert "unknown architecture 'squared'" in printed
    assert "add --import FILE" in printed


def test_custom_family_has_flags_resumes_is_planned_and_uses_a_cache(capsys):
    """Set its fields by flags, in --help and in YAML, resume, plan, and generate with a cache.

    All of it comes from one file and one line.
    """
    code, command = EXTENSIONS["A model family"]
    Path("mine.py").write_text(code)
    words = shlex.split(command.replace("\\\n", " "))[1:]
    assert main([*words[:-2], "--print-config"]) == 0
    Path("mine.yaml").write_text(capsys.readouterr().out)
    wanted = {"architecture": "gated", "hidden_dim": 48, "parallel": True}
    assert {name: load_config("mine.yaml").model[name] for name in wanted} == wanted
    short = ["--import", "mine.py", "--out", "runs/gated", "--train.steps"]
    assert main(["train", "--config", "mine.yaml", *short, "4"]) == 0
    assert main(["train", "--resume", "runs/gated", *short, "8"]) == 0
    assert list_checkpoints(Path("runs/gated"))[0].name == "step-00000008"
    capsys.readouterr()
    assert main(["plan", "runs/gated", "--import", "mine.py"]) == 0
    assert "off by" in capsys.readouterr().out
    model, tokenizer = load("runs/gated")
    assert model.cfg.n_params == sum(parameter.numel() for parameter in model.parameters())
    ids = torch.tensor([tokenizer.encode("The story of Anna")])
    with torch.no_grad():
        cache = model.new_cache(1)
        pieces = torch.cat([model(piece, cache) for piece in ids.split(2, 1)], 1)
        torch.testing.assert_close(pieces, model(ids), rtol=1e-4, atol=1e-5)
    assert main(["train", "--help", "--import", "mine.py", "--model.architecture", "gated"]) == 0
    assert "--model.hidden-dim INT" in " ".join(capsys.readouterr().out.split())
    assert main([*words, "--model.qkv-bias", "--fresh", "--force"]) == 2
    assert (
        "--model.qkv-bias: architecture 'gated' has no such setting; its own settings are"
        " hidden_dim, parallel" in capsys.readouterr().err
    )


def test_custom_source_is_read():
    exec(compile(EXTENSIONS["A source"][0], "mine.py", "exec"), {"__name__": "mine"})
    corpus = prepare(settings({}, {"source": "counting:3", "val_fraction": 0.4}))
    assert np.isin(corpus.tokenizer.eot_token, corpus.train)
