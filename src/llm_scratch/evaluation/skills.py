"""Measure what a model has learned from the stories: each skill against chance, and the entropy.

A probe is right if the true answer is more probable than every wrong answer of the same kind, for
example " Lily" than " Tom" after "Where is the kite,". Stories with seeds from `HELD_OUT` on are
never trained on.
Tests: tests/evaluation/test_skills.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llm_scratch.data.stories import (
    HELD_OUT,
    SKILLS,
    Probe,
    Story,
    example_probes,
    floor_bits_per_byte,
    generate_story,
)
from llm_scratch.errors import DATA, UserError
from llm_scratch.evaluation.loss import first_token, in_float64, rows_at_once
from llm_scratch.evaluation.skill_results import SkillExample, SkillScore
from llm_scratch.model.introspection import (
    check_ids,
    context_length,
    device_of,
    eval_mode,
)
from llm_scratch.ranges import check
from llm_scratch.tokenizers.special import encode_continuation, end_of_text

__all__ = [
    "SkillExample",
    "SkillScore",
    "score_choices",
    "measure_skills",
    "skill_examples",
    "story_bits_per_byte",
]

Row = tuple[int, ...]


def measure_skills(
    model: nn.Module,
    tokenizer: Any,
    n_stories: int = 200,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> dict[str, SkillScore]:
    """Test a model on the probes of validation stories.

    Args:
        model: `model(in_idx [B, T]) -> logits [B, T, V]`; in eval mode during the call.
        tokenizer: with `encode` and an end-of-text token, which precedes each story.
        n_stories: number of validation stories; each has about 11 probes.
        batch_size: rows at once; fewer if their logits would exceed `loss.MAX_LOGITS`.
        device: of the computation (default: that of the model's weights).
    Returns:
        skill -> score, in the order of `SKILLS`.
    Raises:
        UserError: no story, no end-of-text token, or a story longer than the model's context.
    """
    probes = [probe for story in _validation_stories(n_stories) for probe in story.probes]
    right = dict.fromkeys(SKILLS, 0)
    chance = dict.fromkeys(SKILLS, 0.0)
    n = dict.fromkeys(SKILLS, 0)
    answers = score_choices(model, tokenizer, probes, batch_size, device)
    for probe, is_right in zip(probes, answers, strict=True):
        right[probe.skill] += is_right
        chance[probe.skill] += 1 / (1 + len(probe.others))
        n[probe.skill] += 1
    scores = {}
    for skill in (skill for skill in SKILLS if n[skill]):
        accuracy = right[skill] / n[skill]
        stderr = math.sqrt(accuracy * (1 - accuracy) / n[skill])
        scores[skill] = SkillScore(skill, accuracy, chance[skill] / n[skill], n[skill], stderr)
    return scores


def score_choices(
    model: nn.Module,
    tokenizer: Any,
    probes: Sequence[Probe],
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> list[bool]:
    """Whether the model prefers each probe's answer to all wrong ones; a tie counts as wrong."""
    return [
        true > max(wrong)
        for true, *wrong in answer_log_probs(model, tokenizer, probes, batch_size, device)
    ]


def answer_log_probs(
    model: nn.Module,
    tokenizer: Any,
    probes: Sequence[Probe],
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> list[list[float]]:
    """Log-probability in nats of each answer of each probe, the true answer first.

    Answers and probes of the same beginning share a row of the batch,
    as a token does not see later ones.
    """
    first = _first_token(model, tokenizer)
    # for each probe and answer: (row, length of the prompt, answer's ids)
    queries: list[list[tuple[Row, int, Row]]] = []
    for probe in probes:
        prompt = (first, *tokenizer.encode(probe.prompt))
        answers = [
            tuple(encode_continuation(tokenizer, answer))
            for answer in (probe.answer, *probe.others)
        ]
        queries.append([(prompt + answer[:-1], len(prompt), answer) for answer in answers])
    longest = longest_rows(row for answers_of_probe in queries for row, _, _ in answers_of_probe)
    rows = {row: number for number, row in enumerate(dict.fromkeys(longest.values()))}
    # for each row: (index of the answer, position, token)
    targets: list[list[tuple[int, int, int]]] = [[] for _ in rows]
    n_answers = 0
    for answers_of_probe in queries:
        for row, start, answer in answers_of_probe:
            targets[rows[longest[row]]] += [
                (n_answers, start - 1 + i, token) for i, token in enumerate(answer)
            ]
            n_answers += 1
    log_probs = torch.zeros(n_answers, dtype=torch.float64)
    for numbers, logits in _logits(model, list(rows), batch_size, device):
        picked = [(i, *want) for i, number in enumerate(numbers) for want in targets[number]]
        b, answer_ids, position, token = (
            torch.tensor(column, device=logits.device) for column in zip(*picked, strict=True)
        )
        scores = in_float64(logits[b, position]).log_softmax(-1)  # [N, V]
        scores = scores.gather(-1, token[:, None].to(scores.device))[:, 0]  # [N]
        log_probs.index_add_(0, answer_ids.cpu(), scores.cpu())
    totals = iter(log_probs.tolist())
    return [[next(totals) for _ in answers_of_probe] for answers_of_probe in queries]


def longest_rows(rows: Iterable[Row]) -> dict[Row, Row]:
    """For each row of ids a longest one that begins with it: row -> row."""
    longest: dict[Row, Row] = {}
    current: Row = ()
    for row in sorted(rows, reverse=True):  # a row follows all those that begin with it
        if current[: len(row)] != row:
            current = row
        longest[row] = current
    return longest


def skill_examples(model: nn.Module, tokenizer: Any) -> list[SkillExample]:
    """One example of each skill with the model's answers, for a report."""
    probes = example_probes()
    examples = []
    for probe, log_probs in zip(probes, answer_log_probs(model, tokenizer, probes), strict=True):
        probabilities = torch.tensor(log_probs, dtype=torch.float64).softmax(0).tolist()
        examples.append(
            SkillExample(
                probe.skill, probe.prompt, (probe.answer, *probe.others), tuple(probabilities)
            )
        )
    return examples


def story_bits_per_byte(
    model: nn.Module,
    tokenizer: Any,
    n_stories: int = 200,
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> tuple[float, float]:
    """The model's bits per byte on validation stories, and the entropy of the same stories.

    A story is scored as first token, story, end-of-text: every token of the story and its end
    count, which is what its probability under the grammar covers. The entropy is the lowest loss
    that a model can reach on average.

    Returns:
        (bits per byte of the model, entropy in bits per byte).
    Raises:
        UserError: as `measure_skills`.
    """
    stories = _validation_stories(n_stories)
    first = _first_token(model, tokenizer)
    rows = [(first, *tokenizer.encode(story.text), tokenizer.eot_token) for story in stories]
    nats = 0.0
    for numbers, logits in _logits(model, [row[:-1] for row in rows], batch_size, device):
        for scores, number in zip(logits, numbers, strict=True):
            targets = torch.tensor(rows[number][1:])  # [T]
            scores = in_float64(scores[: len(targets)])  # [T, V]
            nats += nn.functional.cross_entropy(
                scores, targets.to(scores.device), reduction="sum"
            ).item()
    n_bytes = sum(len(story.text.encode()) for story in stories)
    return nats / math.log(2) / n_bytes, floor_bits_per_byte(n_stories)


def _validation_stories(n_stories: int) -> list[Story]:
    check("n_stories", n_stories)
    return [generate_story(HELD_OUT + i) for i in range(n_stories)]


def _first_token(model: nn.Module, tokenizer: Any) -> int:
    """The token before a story.

    Raises:
        UserError: the tokenizer has no end-of-text token, so that no story ends (exit code 3).
    """
    first = first_token(model, tokenizer)
    if first is None or end_of_text(tokenizer) is None:
        raise UserError(
            "stories begin with <|endoftext|>, which this tokenizer does not have;"
            " use one that was trained on the stories",
            DATA,
        )
    return first


def _logits(
    model: nn.Module, rows: Sequence[Row], batch_size: int, device: torch.device | str | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Logits for rows of ids, the longest first, padded: (row numbers, logits [B, T, V])."""
    check("batch_size", batch_size)
    device = device_of(model) if device is None else device
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]))
    longest = len(rows[order[0]])
    limit = context_length(model)
    if limit is not None and longest > limit:
        raise UserError(
            f"a story has {longest} tokens, but the model's context is {limit};"
            " train with a larger context_length or vocabulary"
        )
    with eval_mode(model), torch.inference_mode():
        while order:
            T = len(rows[order[0]])
            B = rows_at_once(model, T, batch_size)
            numbers, order = order[:B], order[B:]
            padded = [[*rows[number], *[0] * (T - len(rows[number]))] for number in numbers]
            ids = torch.tensor(padded)  # [B, T]
            check_ids(model, ids)
            yield numbers, model(ids.to(device))
