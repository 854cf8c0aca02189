"""`inspect` prints what the tools measure, within the terminal's width.

It names what it cannot do.
"""

import json

import pytest

from llm_scratch.cli.commands import inspect as command
from llm_scratch.evaluation.head_skills import SkillChange


def test_inspect_report_has_every_table(llm, trained):
    result = llm("inspect", trained, "the hen sat on")
    assert result.code == 0, result.err
    for words in (
        "13 tokens",
        "bits of surprise each",
        "most surprising",
        "logit lens",
        "block 0",
        "Why ",
        "embedding",
        "induction",
        "cpu",
    ):
        assert words in result.out + result.err, words
    assert "grammar" not in result.out  # its text is not a story
    assert "--ablate 0." in result.out  # the next thing to try
    quiet = llm("inspect", trained, "the hen sat", "--quiet")
    assert "--ablate" not in quiet.out
    assert quiet.err == ""


@pytest.mark.parametrize("columns", [80, 40])
def test_inspect_tables_fit_the_terminal(llm, trained, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    result = llm("inspect", trained, "the hen sat", "--ablate", "0.0+0.mlp")
    assert result.code == 0, result.err
    tables = [
        line for line in result.out.splitlines() if "  " in line.strip()
    ]  # prose in a pipe is one line
    assert len(tables) > 15
    assert max(map(len, tables)) <= columns
    assert "Without 0.0+0.mlp:" in result.out


def test_inspect_of_one_token_has_no_surprise(llm, trained):
    result = llm("inspect", trained, "t", "--ablate", "0.0")
    assert result.code == 0, result.err
    assert "nan" not in result.out
    assert "Without 0.0: prediction of the next token" in result.out


def test_prompt_of_the_samples_is_the_default(llm, trained):
    assert llm("inspect", trained).out.splitlines()[0] == "the"


def test_inspect_json_has_the_values_of_the_report(llm, trained):
    result = json.loads(llm("inspect", trained, "the hen sat", "--json", "--ablate", "0.1").out)
    assert "".join(token["text"] for token in result["tokens"]) == "the hen sat"
    mean = sum(token["bits"] for token in result["tokens"][1:]) / 10
    assert result["ablation"]["bits_before"] == pytest.approx(mean)
    assert f"{mean:.2f} bits of surprise each" in llm("inspect", trained, "the hen sat").out
    assert result["ablation"]["skills"] is None


def test_skills_show_accuracy_and_the_interval_of_the_change(llm, trained, monkeypatch):
    ablations = []

    def skill_changes(model, tokenizer, parts, n_stories, by):
        ablations.append((parts, by))
        return [SkillChange(parts[0], "name", 158, 0.98, 0.32, 0.035)]

    monkeypatch.setattr("llm_scratch.evaluation.head_skills.skill_changes", skill_changes)
    words = ("inspect", trained, "the", "--ablate", "0.1", "--skills")
    result = llm(*words)
    assert ablations == [(["0.1"], "zero")]
    assert result.out.splitlines()[-1].split() == ["name", "98%", "32%", "-73", "to", "-59"]
    (row,) = json.loads(llm(*words, "--json").out)["ablation"]["skills"]
    assert row["change_low"] == pytest.approx(-0.66 - 1.96 * 0.035)


def test_stories_show_the_grammars_surprise(llm, trained, monkeypatch):
    monkeypatch.setattr(command, "of_stories", lambda run: True)
    lines = llm("inspect", trained, "the").out.splitlines()
    assert any(line.split() == ["token", "bits", "grammar"] for line in lines)
    assert any(line.split()[::2] == ["h", "–"] for line in lines)  # no story begins with "th"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--skills"], "--skills: has no effect without --ablate"),
        (["--ablate", "0.7"], "unknown part '0.7'; did you mean '0.1'"),
        (["--ablate", "0.1++"], "unknown part ''"),
        (["the hen sat on the mat"], "22 tokens, and the model reads at most 16"),
    ],
)
def test_inspect_errors_are_one_line(llm, trained, words, says):
    result = llm("inspect", trained, *words)
    assert result.code in (2, 3)
    assert says in result.err
    assert result.err.count("\n") == 1


def test_inspect_rejects_quantized_models(llm, trained):
    assert llm("quantize", trained, "--out", "int8").code == 0
    result = llm("inspect", "./int8", "the")
    assert result.code == 2
    assert (
        "activations of a quantized model cannot be captured; use the run that it was made from"
        in result.err
    )
