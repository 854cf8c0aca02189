"""A learner's file: allowed definitions, the template, and the runs that parts fit."""

from __future__ import annotations

import re

import pytest

from llm_scratch.errors import UserError
from llm_scratch.own_parts.parts import PARTS, check_parts, check_settings, open_parts, template
from llm_scratch.own_parts.template import STARTS
from llm_scratch.presets import preset


@pytest.fixture
def mine(tmp_path):
    """A function that writes a learner's file and opens it."""

    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(text, encoding="utf-8")
        return open_parts(path, "--parts mine.py")

    return write


def test_template_has_every_part_unfinished(mine):
    assert list(STARTS) == list(PARTS)
    file = mine(template())
    assert list(file.values) == list(PARTS)
    verdicts = check_parts(file, preset("quickstart"))
    assert {verdict.state for verdict in verdicts} == {"unfinished"}
    assert file.written(verdicts) == {}


def test_template_of_some_parts_imports_what_they_need(mine):
    assert list(mine(template(["muon", "GELU"])).values) == ["GELU", "muon"]
    assert "from torch import nn" not in template(["muon"])
    with pytest.raises(UserError, match="unknown part 'Gelu'; known: FeedForward, GELU"):
        template(["Gelu"])


def test_imported_names_are_not_extracted(mine):
    file = mine(
        "from llm_scratch.model.layers import GELU\ndef top_k(logits, k):\n    return logits\n"
    )
    assert list(file.values) == ["top_k"]
    assert re.fullmatch(r"mine\.py [0-9a-f]{64}", str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "--parts mine.py: it defines no part; known: LayerNorm, GELU"),
        ("def layer_norm(x): ...\n", "layer_norm is not a part; did you mean LayerNorm?"),
        ("1 / 0\n", "--parts mine.py: ZeroDivisionError: division by zero"),
    ],
)
def test_parts_file_without_a_part_is_an_error(mine, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        mine(text)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("shakespeare-modern", [], "needs the GPT of the lessons, and this run has nanochat"),
        ("quickstart", ["model.qkv_bias=true"], "needs model.qkv_bias=False"),
        ("quickstart", ["train.min_lr=0.001"], "this run has train.min_lr=0.001"),
    ],
)
def test_run_with_other_parts_is_an_error(name, changes, message):
    with pytest.raises(UserError, match=message):
        check_settings(preset(name).override(changes))


def test_lowest_rate_matters_to_the_learning_rate_alone():
    check_settings(preset("verdict"), ["LayerNorm"])
    with pytest.raises(UserError, match=r"add --train\.min-lr 0"):
        check_settings(preset("verdict"), ["LayerNorm", "learning_rate"])
