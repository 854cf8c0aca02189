"""Skills and entropy equal a slow reference.

They are perfect for a model of the grammar, and at chance level for a uniform one.
"""

from __future__ import annotations

import math
import re

import pytest
import torch
from no_float64 import OnSuchADevice
from torch import nn

from llm_scratch.data.stories import HELD_OUT, SKILLS, Probe, generate_story
from llm_scratch.errors import UserError
from llm_scratch.evaluation.skills import (
    longest_rows,
    measure_skills,
    score_choices,
    story_bits_per_byte,
)
from llm_scratch.model.gpt import GPTModel


class Words:
    """A tokenizer with a token per word and its leading space; other words are spelled."""

    def __init__(self, texts):
        pieces = {piece for text in texts for piece in self.split(text)} | {
            chr(i) for i in range(32, 127)
        }
        self.pieces = sorted(pieces)
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}
        self.eot_token = len(self.pieces)
        self.n_vocab = len(self.pieces) + 1

    @staticmethod
    def split(text):
        return re.findall(r" ?[A-Za-z]+| ?[^A-Za-z ]", text)

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        ids = []
        for piece in self.split(text):
            ids += (
                [self.ids[piece]] if piece in self.ids else [self.ids[letter] for letter in piece]
            )
        return ids


class Oracle(nn.Module):
    """A model that has memorized rows of ids: the next token gets the logit `sure`, others 0."""

    def __init__(self, rows, n_vocab, sure=30.0):
        super().__init__()
        self.n_vocab, self.sure = n_vocab, sure
        self.next = {tuple(row[:end]): row[end] for row in rows for end in range(1, len(row))}

    def forward(self, in_idx):
        logits = torch.zeros(*in_idx.shape, self.n_vocab)
        for b, row in enumerate(in_idx.tolist()):
            for t in range(len(row)):
                token = self.next.get(tuple(row[: t + 1]))
                if token is not None:
                    logits[b, t, token] = self.sure
        return logits


class Even(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        self.n_vocab = n_vocab

    def forward(self, in_idx):
        return torch.zeros(*in_idx.shape, self.n_vocab)


N = 12


@pytest.fixture(scope="module")
def stories():
    return [generate_story(HELD_OUT + i) for i in range(N)]


@pytest.fixture(scope="module")
def tokenizer(stories):
    """A tokenizer of the words of the first stories, so that some answers take several tokens."""
    return Words(story.text for story in stories[:4])


@pytest.fixture(scope="module")
def rows(stories, tokenizer):
    return [
        [tokenizer.eot_token, *tokenizer.encode(story.text), tokenizer.eot_token]
        for story in stories
    ]


@pytest.fixture(scope="module")
def gpt(rows, tokenizer):
    torch.manual_seed(1)
    cfg = {
        "vocab_size": tokenizer.n_vocab,
        "context_length": max(map(len, rows)) + 8,
        "emb_dim": 16,
        "n_heads": 2,
        "n_layers": 1,
    }
    return GPTModel({**cfg, "drop_rate": 0.3, "qkv_bias": False})


@torch.inference_mode()
def reference(model, tokenizer, probe: Probe) -> bool:
    """Score one answer and one token at a time."""
    totals = []
    for answer in (probe.answer, *probe.others):
        ids = [tokenizer.eot_token, *tokenizer.encode(probe.prompt)]
        total = 0.0
        for token in tokenizer.encode(answer):
            total += model(torch.tensor([ids]))[0, -1].double().log_softmax(-1)[token].item()
            ids.append(token)
        totals.append(total)
    return totals[0] > max(totals[1:])


def test_stories_begin_with_the_start_token_of_the_model(rows, tokenizer, stories):
    """An imported model may have one that is not the end of a text."""
    model = Oracle([[3, *row[1:]] for row in rows], tokenizer.n_vocab)
    probes = [probe for story in stories for probe in story.probes]
    model.start_id = 3
    bits = story_bits_per_byte(model, tokenizer, N)[0]
    assert all(score_choices(model, tokenizer, probes))
    model.start_id = None
    assert bits < 0.1 * story_bits_per_byte(model, tokenizer, N)[0]


def test_score_choices_equals_one_answer_at_a_time(gpt, tokenizer, stories):
    probes = [probe for story in stories[4:6] for probe in story.probes]
    assert (
        max(
            len(tokenizer.encode(answer))
            for probe in probes
            for answer in (probe.answer, *probe.others)
        )
        > 3
    )
    gpt.eval()
    want = [reference(gpt, tokenizer, probe) for probe in probes]
    gpt.train()
    assert score_choices(gpt, tokenizer, probes, batch_size=7) == want
    assert gpt.training, "the model's mode is restored"
    assert 0 < sum(want) < len(want)


def test_probes_of_a_story_share_a_row(gpt, tokenizer, stories, monkeypatch):
    read = []
    monkeypatch.setattr(
        gpt, "forward", lambda ids, forward=gpt.forward: read.append(ids.shape) or forward(ids)
    )
    words = [
        Probe(p.skill, p.prompt, p.answer, tuple(o for o in p.others if o in tokenizer.ids))
        for p in stories[0].probes
    ]
    words = [probe for probe in words if probe.others]  # every answer is one token
    score_choices(gpt, tokenizer, words)
    assert len(words) > 5
    assert read == [(1, max(1 + len(tokenizer.encode(probe.prompt)) for probe in words))]


@pytest.mark.parametrize(
    ("rows", "longest"),
    [
        ([(1, 2), (1, 2, 3), (1,), (1, 2, 3, 0)], [(1, 2, 3, 0)] * 4),
        ([(2,), (1, 2), (2, 1), (2, 0)], [(2, 0), (1, 2), (2, 1), (2, 0)]),
        ([(3, 1), (3, 1)], [(3, 1)] * 2),
    ],
)
def test_longest_rows_begin_with_the_row(rows, longest):
    assert [longest_rows(rows)[row] for row in rows] == longest


def test_skills_are_the_same_on_a_device_without_float64(gpt, tokenizer, stories):
    probes, device = [probe for story in stories[:3] for probe in story.probes], OnSuchADevice(gpt)
    assert score_choices(device, tokenizer, probes) == score_choices(gpt, tokenizer, probes)
    assert story_bits_per_byte(device, tokenizer, 3) == story_bits_per_byte(gpt, tokenizer, 3)


def test_skills_of_a_perfect_model_are_1(rows, tokenizer):
    scores = measure_skills(Oracle(rows, tokenizer.n_vocab), tokenizer, N)
    assert tuple(scores) == SKILLS
    assert all(score.accuracy == 1 and score.stderr == 0 for score in scores.values())


def test_skills_of_an_adversarial_model_are_0(rows, tokenizer):
    assert all(
        score.accuracy == 0
        for score in measure_skills(Oracle(rows, tokenizer.n_vocab, -30.0), tokenizer, N).values()
    )


def test_skill_scores_count_probes(gpt, tokenizer, stories):
    probes = [probe for story in stories for probe in story.probes]
    right = score_choices(gpt, tokenizer, probes)
    for skill, score in measure_skills(gpt, tokenizer, N).items():
        mine = [
            (probe, ok) for probe, ok in zip(probes, right, strict=True) if probe.skill == skill
        ]
        assert score.skill == skill
        assert score.n == len(mine)
        assert score.accuracy == sum(ok for _, ok in mine) / len(mine)
        assert score.chance == pytest.approx(
            sum(1 / (1 + len(probe.others)) for probe, _ in mine) / len(mine)
        )
        assert score.chance <= 0.5
        assert score.stderr == pytest.approx(
            math.sqrt(score.accuracy * (1 - score.accuracy) / score.n)
        )


def test_score_choices_counts_a_tie_as_wrong():
    tokenizer = Words(["Lily or Tom"])
    assert score_choices(
        Even(tokenizer.n_vocab), tokenizer, [Probe("name", "Lily or", " Tom", (" Tom",))]
    ) == [False]


def test_uniform_model_needs_log2_vocab_bits_per_token(rows, tokenizer, stories):
    got, floor = story_bits_per_byte(Even(tokenizer.n_vocab), tokenizer, N)
    n_bytes = sum(len(story.text) for story in stories)
    n_tokens = sum(len(row) - 1 for row in rows)
    assert got == pytest.approx(math.log2(tokenizer.n_vocab) * n_tokens / n_bytes)
    assert floor == pytest.approx(sum(story.bits for story in stories) / n_bytes)
    assert 0.2 < floor < 0.8


def test_story_bits_include_the_end_of_text(rows, tokenizer):
    """A model that is sure of every token but the last has the loss of the last alone."""
    got, _ = story_bits_per_byte(Oracle([rows[0][:-1]], tokenizer.n_vocab, 99.0), tokenizer, 1)
    assert got == pytest.approx(math.log2(tokenizer.n_vocab) / len(generate_story(HELD_OUT).text))


def test_skills_do_not_depend_on_the_batch_size(gpt, tokenizer):
    one, many = (story_bits_per_byte(gpt, tokenizer, 5, batch_size)[0] for batch_size in (1, 64))
    assert one == pytest.approx(many, rel=1e-6)
    assert measure_skills(gpt, tokenizer, 3, 1) == measure_skills(gpt, tokenizer, 3, 64)


@pytest.mark.parametrize("measure", [measure_skills, story_bits_per_byte])
def test_score_choices_rejects_invalid_arguments(measure, gpt, tokenizer):
    with pytest.raises(UserError, match="n_stories: 0 is out of range"):
        measure(gpt, tokenizer, 0)
    with pytest.raises(UserError, match="batch_size: 0 is out of range"):
        measure(gpt, tokenizer, 2, 0)
    small = GPTModel({**gpt.cfg, "context_length": 20})
    with pytest.raises(
        UserError, match=r"a story has \d+ tokens, but the model's context is 20; train with"
    ):
        measure(small, tokenizer, 2)

    class Plain(Words):
        eot_token = property(
            lambda self: (_ for _ in ()).throw(AttributeError()), lambda self, value: None
        )

    with pytest.raises(UserError, match=r"does not have; use one that was trained on the stories"):
        measure(gpt, Plain(["a"]), 2)
