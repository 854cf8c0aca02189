"""The page is complete, self-contained, and safe with hostile text.

It names what is missing.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from llm_scratch.evaluation.skill_results import SkillExample, SkillResults, SkillScore
from llm_scratch.presets import preset
from llm_scratch.reports.contents import collect
from llm_scratch.reports.page import render, write_report
from llm_scratch.training.lock import exclusive_writer

from .test_contents import QUICK, ROWS, make

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'\x1b[31m\u202e"
FINISHED = {"step": 1100, "steps": 1100}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += f"{data} "

    @property
    def visible_text(self) -> str:
        """The words of the page, single spaces between them."""
        return " ".join(self.words.split())


def page_of(folder) -> Page:
    return Page(render(collect(folder)))


def skills(**more):
    """Skills of a finished run, one of them with the model's answers."""
    scores = (
        SkillScore("name", 0.913, 0.25, 500, 0.01),
        SkillScore("count", 0.14, 0.25, 300, 0.02),
    )
    example = SkillExample(
        "name", "The tale of Mia and Lily. Here came", (" Mia", " Lily"), (0.8, 0.2)
    )
    return SkillResults(0.32, 0.29, scores, (example,), **more)


def complete(folder):
    """A finished run that has everything."""
    make(folder, state=FINISHED, rows=[*ROWS, {**ROWS[-1], "step": 1100, "elapsed": 100.0}])
    (folder / "samples.md").write_text("# What\n\n## Step 100, 1,000 tokens\n\nThe story of Mia\n")
    (folder / "env.json").write_text(
        json.dumps(
            {"python": "3.12.1", "torch": "2.9", "processor": "Fast 9000", "matrix_rate": 5e11}
        )
    )
    skills(step=1100).save(folder)
    return folder


def test_page_of_a_complete_run_has_every_section(tmp_path):
    text = page_of(complete(tmp_path / "mine")).visible_text
    for words in (
        "mine",
        "finished",
        "625k parameters",
        "Validation loss 2.100",
        "Above the floor",
        "best 2.100 at step 100",
        "Diagnosis",
        "skills below chance",
        "Samples during training",
        "Step 100, after 1,000 tokens",
        "91.3% ± 1.0%",
        "the model is right",
        "Mia ✓ 80.0%",
        "whole run 1 min 40 s",
        "All settings are those of the preset quickstart",
        "Fast 9000",
        "500 GFLOP/s",
        "llm-scratch train quickstart --out runs/again",
    ):
        assert words in text, words


def test_page_is_self_contained_and_has_no_scripts(tmp_path):
    text = render(collect(complete(tmp_path)))
    page = Page(text)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert {name for name, _ in page.attributes}.isdisjoint(
        {"src", "href", "onload", "onerror", "onclick", "srcset"}
    )
    assert not re.search(r"url\((?!#)|@import|https?://", text)


def test_page_style_has_dark_narrow_and_print_rules(tmp_path):
    style = re.search(r"<style>(.*)</style>", render(collect(complete(tmp_path))), re.S)[1]
    assert style.count("{") == style.count("}")
    assert "prefers-color-scheme: dark" in style
    assert "max-width: 40rem" in style
    printed = style.partition("@media print")[2]
    assert "break-inside: avoid" in printed
    used = set(re.findall(r"var\((--\w+)\)", style))
    for block in re.findall(r"--ink:[^}]*", style):
        assert used <= set(re.findall(r"(--\w+):", block)), "each palette has every color"


def test_page_escapes_hostile_text_everywhere(tmp_path):
    config = replace(
        QUICK.with_model(),
        train=replace(QUICK.train, prompt=HOSTILE),
        data=replace(QUICK.data, source=f"stories:{HOSTILE}", tokenizer=HOSTILE),
        init_from=HOSTILE,
    )
    folder = complete(tmp_path / "<b>run")
    make(folder, config, rows=[*ROWS, {HOSTILE: 1.0, "step": 1100}])
    (folder / "samples.md").write_text(
        f"# What\n\n## Step 100, 1,000 tokens\n\n{HOSTILE}{HOSTILE}\n"
    )
    (folder / "env.json").write_text(
        json.dumps({"torch": HOSTILE, "processor": HOSTILE, "matrix_rate": HOSTILE})
    )
    example = SkillExample("name", HOSTILE, (HOSTILE, HOSTILE), (0.5, 0.5))
    SkillResults(
        0.3,
        0.29,
        (SkillScore("name", 0.9, 0.25, 9, 0.1), SkillScore(HOSTILE, 0.9, 0.25, 9, 0.1)),
        (example,),
    ).save(folder)
    text = render(collect(folder))
    page = Page(text)
    assert not page.tags & {"script", "img", "b>run"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)
    assert page.visible_text.count("alert(1)") >= 9


def test_page_states_missing_skills_samples_and_environment(tmp_path):
    folder = make(
        tmp_path, replace(QUICK, data=replace(QUICK.data, source="verdict")), state=FINISHED
    )
    text = page_of(folder).visible_text
    assert "No samples were generated" in text
    assert "has no valid env.json" in text
    assert "Skills" not in text, "only stories have skills"
    assert "Skills Not measured" in page_of(make(tmp_path / "b", state=FINISHED)).visible_text


def test_page_of_a_quantized_model_has_no_training_advice(tmp_path):
    folder = make(
        tmp_path / "small",
        QUICK,
        rows=None,
        state={"step": 0, "steps": 0, "quantized": 8, "made_from": "runs/a"},
    )
    text = page_of(folder).visible_text
    assert "Runs/a quantized to 8 bits" in text or "runs/a quantized to 8 bits" in text
    assert "not trained in this form" in text
    assert "llm-scratch quantize runs/a --bits 8" in text
    assert "llm-scratch train" not in text
    assert "--resume" not in text


def test_page_of_an_imported_model_names_its_origin(tmp_path):
    folder = make(tmp_path, rows=None, state={"step": 0, "steps": 0, "made_from": "model.pth"})
    text = page_of(folder).visible_text
    assert "Imported from model.pth" in text
    assert "llm-scratch import model.pth --out runs/again" in text
    assert "--resume" not in text


def test_page_of_an_unfinished_run_states_its_progress(tmp_path):
    folder = make(tmp_path / "a run", state={"step": 50, "steps": 1100})
    with exclusive_writer(folder, print):
        assert "the first 100 of 1,100 steps" in page_of(folder).visible_text
    text = page_of(folder).visible_text
    assert (
        "Training was stopped or killed at step 100 of 1,100; the last checkpoint is of step 50"
        in text
    )
    assert f"llm-scratch train --resume '{folder}'" in text
    assert "no checkpoint was saved" in page_of(make(tmp_path / "b")).visible_text
    assert "no training step yet" in page_of(make(tmp_path / "c", rows=None)).visible_text


def test_page_compares_plan_and_measurement(tmp_path):
    folder = complete(tmp_path)
    memory = {"weights": 1, "gradients": 1, "optimizer": 1, "step": 1, "look": 1, "peak": 1}
    from dataclasses import fields

    from llm_scratch.planning.memory_estimate import MemoryEstimate
    from llm_scratch.planning.plan import Plan

    values = {field.name: 1 for field in fields(Plan)} | {
        "memory": {field.name: memory.get(field.name, 1) for field in fields(MemoryEstimate)},
        "steps": 100,
        "seconds_per_step": 0.6,
        "eval_seconds": 15.0,
        "sample_seconds": 5.0,
        "trial": "3 steps",
        "precision": "float32",
        "device": "cpu",
        "tokens_per_step": 10,
    }
    (folder / "plan.json").write_text(json.dumps(values))
    text = page_of(folder).visible_text
    assert "Predicted before the first step, from 3 steps." in text
    assert "time of a step 0.6 s 0.5 s +20%" in text
    assert "whole run 1 min 20 s 1 min 40 s -20%" in text


def test_page_of_a_run_is_deterministic(tmp_path):
    folder = complete(tmp_path / "run")
    first = write_report(folder)
    assert first == folder / "report.html"
    again = write_report(folder, tmp_path / "again.html")
    assert again.read_bytes() == first.read_bytes()


def test_page_lists_changed_settings_first(tmp_path):
    config = replace(QUICK, train=replace(QUICK.train, steps=7, prompt=""))
    text = page_of(make(tmp_path / "quickstart", config)).visible_text
    assert (
        "2 settings differ from the preset quickstart : setting this run preset train.steps 7 1100"
        in text
    )
    assert "--train.steps 7 --train.prompt ''" in text
    assert preset("quickstart") == QUICK


def test_page_evaluations_include_the_first_and_the_last(tmp_path):
    rows = [{**ROWS[0], "step": step, "tokens": step} for step in range(0, 3100, 100)]
    table = re.search(r"<table>.*?</table>", render(collect(make(tmp_path, rows=rows))), re.S)[0]
    steps = [
        int(step.replace(",", "")) for step in re.findall(r'<th scope="row">([\d,]+)</th>', table)
    ]
    assert (steps[0], steps[-1], len(steps)) == (0, 3000, 8)


def test_page_of_an_untrained_model_has_no_empty_sections(tmp_path):
    folder = make(
        tmp_path, QUICK, rows=None, state={"step": 0, "steps": 0, "quantized": 4, "made_from": "a"}
    )
    headings = re.findall(r"<h2>(.*?)</h2>", render(collect(folder)))
    assert headings == ["Settings", "Reproduce"]
