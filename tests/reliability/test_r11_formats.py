"""R11: checkpoints of every earlier format load, and their runs resume.

A newer format is an error that names it.

`formats/N` is a run directory of format N at step 2 of 4, with the rows of all four steps.
When the format changes, add another one: the run that `WORDS` makes, without
`ckpt/step-00000004`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llm_scratch.cli import main
from llm_scratch.loading import load
from llm_scratch.storage import checkpoint, manifest

from .conftest import learned_rows

FORMATS = sorted((Path(__file__).parent / "formats").iterdir(), key=lambda path: int(path.name))
TEXT = "the hen sat on the red mat, and the fox ran off.\n" * 55
WORDS = """
    train shakespeare --data.source file:hens.txt --data.tokenizer chars --data.val-fraction 0.2
    --model.vocab-size 20 --model.context-length 8 --model.emb-dim 8 --model.n-heads 2
    --model.n-layers 1 --model.drop-rate 0 --train.optimizer adamw --train.steps 4
    --train.batch-size 2 --train.eval-every 2 --train.eval-batches 2 --train.save-every 2
    --train.sample-every 4 --train.warmup-steps 1 --train.log-every 1 --train.prompt the --out run
    --device cpu"""


def test_r11_fixture_exists_for_each_format():
    assert [int(path.name) for path in FORMATS] == list(range(1, manifest.FORMAT + 1))
    for path in FORMATS:
        written_manifest = json.loads(
            (path / "ckpt" / "step-00000002" / "manifest.json").read_text()
        )
        assert written_manifest["format"] == int(path.name)


@pytest.mark.parametrize("kept", FORMATS, ids=lambda path: path.name)
def test_r11_run_of_an_old_format_resumes(kept, tmp_path, monkeypatch, capsys, measured):
    monkeypatch.chdir(tmp_path)
    Path("hens.txt").write_text(TEXT)
    shutil.copytree(kept, "run")
    model, tokenizer = load("run")
    assert tokenizer.decode(tokenizer.encode("the hen")) == "the hen"
    assert sum(p.numel() for p in model.parameters()) == 1088
    want = learned_rows(Path("run"))
    assert main(WORDS.split()) == 0
    assert "resuming at step 2 of 4" in capsys.readouterr().out
    rows = learned_rows(Path("run"))
    assert [row["step"] for row in rows] == [row["step"] for row in want]
    for row, then in zip(rows, want):
        assert {key: row[key] for key in then} == pytest.approx(then, rel=1e-5)
    assert checkpoint.load_latest(Path("run"), pytest.fail).state["step"] == 4
    written = json.loads(Path("run/ckpt/step-00000004/manifest.json").read_text())["format"]
    assert written == manifest.FORMAT
    measured(
        "R11",
        f"format {kept.name}: loaded, and its run resumed to the same losses",
        "the last 3 formats (there have been 2)",
    )


def test_r11_newer_format_is_refused_and_nothing_is_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("hens.txt").write_text(TEXT)
    shutil.copytree(FORMATS[-1], "run")
    path = Path("run/ckpt/step-00000002/manifest.json")
    path.write_bytes(
        manifest._with_hash(json.loads(path.read_text()) | {"format": manifest.FORMAT + 1})
    )
    for words in (WORDS.split(), ["generate", "run", "the"]):
        assert main(words) == 4
        printed = capsys.readouterr().err
        assert f"has format {manifest.FORMAT + 1}, which is newer than this program" in printed
        assert "update this program: git pull" in printed
    assert [p.name for p in Path("run/ckpt").iterdir() if p.is_dir()] == ["step-00000002"]
