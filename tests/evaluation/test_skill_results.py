"""skills.json is equal after writing and reading.

Older versions are read; damaged files are not.
"""

from __future__ import annotations

import json
import math

import pytest
import torch

from llm_scratch.data.stories import example_probes
from llm_scratch.evaluation.skill_results import SkillExample, SkillResults, SkillScore, read_skills
from llm_scratch.evaluation.skills import answer_log_probs, score_choices, skill_examples
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import TOKENIZERS

SCORE = SkillScore("name", 0.75, 0.25, 40, 0.07)
EXAMPLE = SkillExample("name", "Here came", (" Mia", " Lily"), (0.75, 0.25))


def test_skill_results_round_trip(tmp_path):
    want = SkillResults(0.5, 0.25, (SCORE,), (EXAMPLE,), step=7)
    want.save(tmp_path)
    assert read_skills(tmp_path) == want


def test_skill_results_of_an_older_version_are_read(tmp_path):
    score = {"skill": "name", "accuracy": 0.75, "chance": 0.25, "n": 40, "stderr": 0.07}
    old = {"bits_per_byte": 0.5, "floor_bits_per_byte": 0.25, "skills": {"name": score}}
    (tmp_path / "skills.json").write_text(json.dumps(old))
    assert read_skills(tmp_path) == SkillResults(0.5, 0.25, (SCORE,))


@pytest.mark.parametrize(
    "damage",
    [None, "", "{", "3", "{}", '{"bits_per_byte": 1, "floor_bits_per_byte": 0, "skills": {}}'],
)
def test_damaged_skill_results_are_none(tmp_path, damage):
    if damage is not None:
        (tmp_path / "skills.json").write_text(damage)
    assert read_skills(tmp_path) is None


@pytest.fixture(scope="module")
def model_and_tokenizer():
    probes = example_probes()
    tokenizer = TOKENIZERS["bpe"](
        ["".join((probe.prompt, probe.answer, *probe.others)) for probe in probes], 300
    )
    torch.manual_seed(0)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": 512,
        "emb_dim": 16,
        "n_heads": 2,
        "n_layers": 1,
        "drop_rate": 0.0,
    }
    return GPTModel(cfg).eval(), tokenizer


def test_examples_have_the_probabilities_of_the_answers(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    probes = example_probes()
    examples = skill_examples(model, tokenizer)
    for probe, example, log_probs in zip(
        probes, examples, answer_log_probs(model, tokenizer, probes), strict=True
    ):
        assert example.answers == (probe.answer, *probe.others)
        total = sum(math.exp(value) for value in log_probs)
        assert example.probabilities == pytest.approx(
            [math.exp(value) / total for value in log_probs]
        )


@torch.inference_mode()
def test_answer_log_probability_is_the_sum_of_its_tokens(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    probe = example_probes()[0]
    found = answer_log_probs(model, tokenizer, [probe])[0]
    for answer, value in zip((probe.answer, *probe.others), found, strict=True):
        prompt = [tokenizer.eot_token, *tokenizer.encode(probe.prompt)]
        ids = tokenizer.encode(answer)
        log_probs = model(torch.tensor([prompt + ids]))[0].double().log_softmax(-1)
        want = sum(log_probs[len(prompt) - 1 + i, token].item() for i, token in enumerate(ids))
        assert value == pytest.approx(want, rel=1e-5)
    assert score_choices(model, tokenizer, [probe]) == [found[0] > max(found[1:])]
