"""Every part: a correct one is equal; each known mistake and failure has its diagnosis."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from llm_scratch.errors import UserError
from llm_scratch.learn.sealed import open_sealed
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.layers import GELU, FeedForward, LayerNorm
from llm_scratch.own_parts import (
    attention_part,
    layer_parts,
    optimizer_parts,
    sampler_parts,
    schedule_part,
    tokenizer_parts,
)
from llm_scratch.own_parts.parts import PARTS, check_parts, open_parts
from llm_scratch.own_parts.verdict import compare
from llm_scratch.presets import preset

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts_example.py"
QUICKSTART = preset("quickstart")
MODULES: list[tuple[str, type[nn.Module], tuple[Callable, ...]]] = [
    ("LayerNorm", LayerNorm, layer_parts.NORM_MISTAKES),
    ("GELU", GELU, layer_parts.GELU_MISTAKES),
    ("FeedForward", FeedForward, layer_parts.FEED_FORWARD_MISTAKES),
    ("MultiHeadAttention", MultiHeadAttention, attention_part.MISTAKES),
]
FUNCTIONS: list[tuple[str, tuple[Callable, ...]]] = [
    ("temperature", sampler_parts.TEMPERATURE_MISTAKES),
    ("top_k", sampler_parts.TOP_K_MISTAKES),
    ("top_p", sampler_parts.TOP_P_MISTAKES),
    ("adamw", optimizer_parts.ADAMW_MISTAKES),
    ("muon", optimizer_parts.MUON_MISTAKES),
    ("encode_word", tokenizer_parts.ENCODE_MISTAKES),
]


def check(name, part):
    return PARTS[name].check(part, QUICKSTART)


def diagnosis(mistake):
    return " ".join(mistake.__doc__.split())


def mistaken(base, mistake):
    """A learner's module that makes a mistake."""

    class Wrong(base):
        def forward(self, x):
            package = copy.copy(self)
            package.__class__ = base
            return mistake(package, x)

    return Wrong


def test_every_part_of_the_example_is_equal():
    file = open_parts(EXAMPLE, "example")
    assert list(file.values) == list(PARTS)
    verdicts = check_parts(file, QUICKSTART)
    assert [verdict.state for verdict in verdicts] == ["equal"] * len(PARTS)
    largest = {verdict.part: verdict.largest_difference for verdict in verdicts}
    # gradients of the layer norm reach 70, since one token has tiny values
    assert largest.pop("LayerNorm") < 70 * 6 * torch.finfo(torch.float32).eps
    assert all(difference < 1e-5 for difference in largest.values())


@pytest.mark.parametrize(
    ("name", "base", "mistake"),
    [(name, base, mistake) for name, base, mistakes in MODULES for mistake in mistakes],
)
def test_mistake_in_a_module_is_diagnosed(name, base, mistake):
    verdict = check(name, mistaken(base, mistake))
    assert verdict.state == "different"
    assert verdict.message == diagnosis(mistake)
    assert verdict.where.startswith("output [")


@pytest.mark.parametrize(
    ("name", "mistake"), [(name, mistake) for name, mistakes in FUNCTIONS for mistake in mistakes]
)
def test_mistake_in_a_function_is_diagnosed(name, mistake):
    verdict = check(name, mistake)
    assert (verdict.state, verdict.message) == ("different", diagnosis(mistake))


@pytest.mark.parametrize("mistake", schedule_part.MISTAKES)
def test_mistake_in_the_schedule_is_diagnosed(mistake):
    wrong = schedule_part._wrong(mistake, schedule_part._scheduled("linear"))
    assert check("learning_rate", wrong).message == diagnosis(mistake)


def test_run_without_warmup_is_among_the_cases():
    def divides(step, total, peak, warmup):
        return peak * min((step + 1) / warmup, (total - step) / (total - warmup))

    verdict = check("learning_rate", divides)
    assert verdict.message.startswith("it stops with ZeroDivisionError")


def test_another_schedule_of_the_package_is_named():
    verdict = check("learning_rate", schedule_part._scheduled("cosine"))
    assert verdict.message == "It is the cosine schedule; this run has train.schedule=linear."


@pytest.mark.parametrize(
    ("exercise", "name"),
    [
        (exercise, mistake.__name__)
        for exercise in ("1.4", "1.5")
        for mistake in open_sealed(exercise).mistakes
    ],
)
def test_mistake_in_learning_merges_is_diagnosed_or_stops(exercise, name):
    choose, join = (open_sealed(each).solve for each in ("1.4", "1.5"))
    wrong = next(m for m in open_sealed(exercise).mistakes if m.__name__ == name)
    choose, join = (wrong, join) if exercise == "1.4" else (choose, wrong)

    def learn_merges(words, n_merges):
        merges = []
        for new in range(256, 256 + n_merges):
            merges.append(choose(words))
            words = {join(word, merges[-1], new): n for word, n in words.items()}
        return merges

    verdict = check("learn_merges", learn_merges)
    assert verdict.state == "different"
    unclear = "it stops with ", "it gives ", tokenizer_parts.NEVER_JOINED
    assert verdict.message == diagnosis(wrong) or verdict.message.startswith(unclear)


def test_wrong_output_reports_position_and_difference():
    verdict = check("temperature", lambda logits, t: logits / t + (torch.arange(11) == 4))
    assert verdict.message == "its output differs; work one value out by hand, and compare"
    assert verdict.where.startswith("output [")
    assert verdict.where.endswith(", 4] of shape (3, 11)")
    assert verdict.yours == pytest.approx(verdict.expected + 1)
    assert verdict.largest_difference == pytest.approx(1)
    assert "; largest difference 1" in verdict.numbers


def test_largest_difference_is_over_all_inputs():
    """It is neither that of the largest excess over the tolerance, nor that of the first input."""
    small = torch.tensor([0.0, 1e-6])
    cases = [(torch.tensor([1.0, 1.0]),), (torch.tensor([2.0, 2.0]),)]
    verdict = compare(
        "x", lambda v: {"output": v + small * (v - 1)}, lambda v: {"output": v}, cases
    )
    assert verdict.state == "equal"
    assert verdict.largest_difference == pytest.approx(1e-6, rel=0.2)


@pytest.mark.parametrize("convert", [torch.Tensor.tolist, torch.Tensor.numpy])
def test_module_must_return_a_tensor(convert):
    class Converted(GELU):
        def forward(self, x):
            return convert(super().forward(x).detach())

    verdict = check("GELU", Converted)
    assert verdict.state == "different"
    assert re.fullmatch("it gives a (list|ndarray); return a tensor", verdict.message)


def test_missing_gradient_is_distinguished_from_a_wrong_output():
    class Detached(LayerNorm):
        def forward(self, x):
            return super().forward(x.detach())

    verdict = check("LayerNorm", Detached)
    assert verdict.message.startswith(
        "its output is right and a gradient is wrong; look for detach"
    )
    assert verdict.where.startswith("gradient of x [")


def test_part_with_other_weight_names_is_diagnosed_with_both_lists():
    class Renamed(nn.Module):
        def __init__(self, emb_dim):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(emb_dim))

        def forward(self, x):
            return x * self.gamma

    message = check("LayerNorm", Renamed).message
    assert message == (
        "its weights are gamma (12,); expected, in any order: scale (12,), shift (12,)"
    )


def endless(logits, t):
    while t > 0:
        logits = logits + t
    return logits


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (endless, "it did not end; look at its loops: "),
        (lambda logits, t: logits[0], "it gives the shape (11,); the package's gives (3, 11)"),
        (lambda logits, t: "hot", "it gives 'hot'; the package's gives tensor("),
        (lambda logits: logits, "it stops with TypeError: "),
        (lambda logits, t: 1 / 0, "it stops with ZeroDivisionError: division by zero"),
        (lambda logits, t: logits * torch.nan, "its output differs"),
    ],
)
def test_unexpected_failure_of_a_part_is_reported(part, message):
    assert check("temperature", part).message.startswith(message)


def test_error_in_a_parts_file_names_its_line(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("def temperature(logits, t):\n    x = 1\n    return logits / missing\n")
    (verdict,) = check_parts(open_parts(path, "wrong.py"), QUICKSTART)
    assert verdict.message == ("it stops with NameError: name 'missing' is not defined, line 3")


def test_endless_loop_outside_a_part_is_an_error_with_its_line(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("n = 1\nwhile n:\n    n = -n\n")
    with pytest.raises(
        UserError, match=r"^wrong\.py: it did not end, line [23]; look at its loops"
    ):
        open_parts(path, "wrong.py")


@pytest.mark.parametrize("name", ["top_k", "adamw", "learning_rate", "encode_word"])
def test_part_without_code_is_unfinished(name):
    assert check(name, lambda *arguments: ...).state == "unfinished"
