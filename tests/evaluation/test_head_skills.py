"""Skills without a head equal those of a model whose weights for it are zero.

The interval is that of paired, clustered differences.
"""

import copy
import math

import pytest
import torch

from llm_scratch.data.stories import HELD_OUT, SKILLS, generate_story
from llm_scratch.errors import UserError
from llm_scratch.evaluation.head_skills import (
    _change,
    answer_attention,
    known_parts,
    reference_ids,
    skill_changes,
)
from llm_scratch.evaluation.skills import measure_skills
from llm_scratch.interpretability.capture import capture
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import CharTokenizer

N = 3


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer.train([generate_story(HELD_OUT + i).text for i in range(30)])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(2)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": 1200,
        "emb_dim": 8,
        "n_heads": 2,
        "n_layers": 1,
    }
    return GPTModel({**cfg, "drop_rate": 0.0, "qkv_bias": False}).eval()


def test_every_ablated_part_has_a_name(model):
    assert list(known_parts(model)) == ["0.0", "0.1", "0.mlp"]


def test_ablated_accuracy_is_that_of_a_model_with_weights_of_zero(model, tokenizer):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.trf_blocks[0].att.out_proj.weight[:, 4:] = 0
        changed.trf_blocks[0].ff.layers[2].weight.zero_()
        changed.trf_blocks[0].ff.layers[2].bias.zero_()
    whole, without = measure_skills(model, tokenizer, N), measure_skills(changed, tokenizer, N)
    changes = skill_changes(model, tokenizer, ["0.1+0.mlp"], N, by="zero")
    assert [change.skill for change in changes] == [skill for skill in SKILLS if skill in whole]
    for change in changes:
        assert (change.accuracy, change.ablated) == pytest.approx(
            (whole[change.skill].accuracy, without[change.skill].accuracy)
        )
        assert change.n == whole[change.skill].n
    assert any(change.change for change in changes)


def test_mean_ablation_takes_the_mean_over_stories(model, tokenizer):
    reference = reference_ids(model, tokenizer)
    with torch.no_grad(), capture(model, "blocks.0.hook_mlp_out") as acts:
        model(reference)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.trf_blocks[0].ff.layers[2].weight.zero_()
        changed.trf_blocks[0].ff.layers[2].bias.copy_(acts["blocks.0.hook_mlp_out"].mean((0, 1)))
    without = measure_skills(changed, tokenizer, N)
    for change in skill_changes(model, tokenizer, ["0.mlp"], N):
        assert change.ablated == without[change.skill].accuracy


def test_standard_error_treats_probes_of_a_story_as_dependent():
    before, after = [True, True, False, True], [False, False, False, True]
    change = _change("0.0", "name", before, after, [0, 0, 1, 1])
    assert (change.accuracy, change.ablated, change.change) == (0.75, 0.25, -0.5)
    # deviations from the mean of -0.5: -0.5 and -0.5 in story 0, 0.5 and 0.5 in story 1
    assert change.stderr == pytest.approx(math.sqrt(1**2 + 1**2) / 4)
    assert change.interval == pytest.approx(
        (-0.5 - 1.96 * change.stderr, -0.5 + 1.96 * change.stderr)
    )


def test_answer_attention_is_the_weight_on_earlier_mentions(model, tokenizer):
    """Compare with a manual calculation from the pattern of each prompt.

    Earlier mentions begin with the same letters as the answer.
    """
    by_skill = {}
    for seed in (HELD_OUT, HELD_OUT + 1):
        for probe in generate_story(seed).probes:
            ids = torch.tensor([[tokenizer.eot_token, *tokenizer.encode(probe.prompt)]])
            with torch.no_grad(), capture(model, "*.hook_pattern") as acts:
                model(ids)
            mentions = ids[0] == tokenizer.encode(probe.answer)[0]
            by_skill.setdefault(probe.skill, []).append(
                (acts["blocks.0.attn.hook_pattern"][0, :, -1] * mentions).sum(-1)
            )
    attention = answer_attention(model, tokenizer, 2)
    assert set(attention) == set(by_skill)
    for skill, rows in by_skill.items():
        torch.testing.assert_close(attention[skill], torch.stack(rows).mean(0)[None])


def test_unknown_parts_suggest_the_nearest(model, tokenizer):
    with pytest.raises(UserError, match=r"unknown part '0\.mpl'; did you mean '0\.mlp'"):
        skill_changes(model, tokenizer, ["0.0", "0.1+0.mpl"], N)
