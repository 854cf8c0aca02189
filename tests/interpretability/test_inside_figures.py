"""docs/inside.md includes every table and every picture of docs/inside_figures.py."""

import re
from importlib import import_module

import pytest
import torch

from llm_scratch.evaluation.head_skills import SkillChange
from llm_scratch.presets import preset
from llm_scratch.storage.checkpoint import list_checkpoints

inside_figures = import_module("inside_figures")


def test_inside_page_has_every_table_and_picture_once():
    page = inside_figures.PAGE.read_text(encoding="utf-8")
    source = inside_figures.Path(inside_figures.__file__).read_text(encoding="utf-8")
    for name in re.findall(r'^        "(\w+)": \w+_table\(', source, flags=re.M):
        assert (
            "| ---: |"
            in re.search(f"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", page, flags=re.S)[1]
        ), name
    drawn = set(re.findall(r'PICTURES / "([\w.]+)"', source))
    assert (
        drawn
        == set(re.findall(r"\(inside/([\w.]+)\)", page))
        == {file.name for file in inside_figures.PICTURES.iterdir()}
    )


def test_film_keeps_every_checkpoint(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("the hen sat on the red mat, and the fox ran off.\n" * 30)
    model = (
        "model.vocab_size=40 model.context_length=16 model.emb_dim=16 model.n_heads=2"
        " model.n_layers=1"
    )
    data = f"data.source=file:{tmp_path / 'text.txt'} data.val_fraction=0.2"
    steps = (
        "train.steps=12 train.batch_size=2 train.eval_every=6 train.eval_batches=1"
        " train.sample_every=0 train.log_every=1"
    )
    config = preset("shakespeare").override(f"{model} {data} {steps} train.warmup_steps=1".split())
    monkeypatch.setattr(inside_figures, "preset", lambda name: config)
    monkeypatch.setattr(inside_figures, "SAVE_EVERY", 2)
    checkpoints = inside_figures.film(tmp_path / "run")
    assert list(checkpoints) == [2, 4, 6, 8, 10, 12]  # the run itself keeps fewer
    assert len(list_checkpoints(tmp_path / "run")) < 6
    assert inside_figures.film(tmp_path / "run") == checkpoints  # there already: not trained again


def test_fill_replaces_what_is_between_the_comments():
    assert (
        inside_figures.fill("a <!-- x --> old <!-- end of x --> b", "x", r"\1 new")
        == "a <!-- x -->\n\\1 new\n<!-- end of x --> b"
    )
    with pytest.raises(ValueError, match="0 places for 'y'"):
        inside_figures.fill("a", "y", "new")


def test_changes_are_bold_where_the_interval_excludes_zero():
    changes = [
        SkillChange("1.2", skill, 100, 0.9, ablated, 0.02)
        for skill, ablated in zip(inside_figures.SKILLS, (0.2, 0.88, 0.9, 0.95, 0.899))
    ]
    assert (
        inside_figures.skills_table(changes).splitlines()[-1]
        == "| 1.2 | **-70** | -2 | +0 | **+5** | +0 |"
    )


def test_strongest_heads_come_first():
    assert inside_figures.strongest(torch.tensor([[0.1, 0.9], [0.5, 0.2]]), 2) == [(0, 1), (1, 0)]
