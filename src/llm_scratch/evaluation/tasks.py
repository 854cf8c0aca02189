"""Small benchmarks from local files: cloze, multiple choice, bits per byte.

A file has one question a line, as JSON, and its keys say its kind:

    {"context": "Lily has a red", "target": " kite"}                     cloze
    {"context": "A kite can", "choices": [" fly", " swim"], "answer": 0}  multiple choice
    {"text": "Once upon a time ..."}                                     bits per byte

`KINDS` maps the keys to the measure; add your own with one line.
Tests: tests/evaluation/test_tasks.py.
Source: cloze as in LAMBADA (Paperno et al. 2016, https://arxiv.org/abs/1606.06031), choices scored
by log-likelihood per character as in GPT-3 (Brown et al. 2020, https://arxiv.org/abs/2005.14165).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_scratch.errors import DATA, UserError
from llm_scratch.evaluation.likelihood import encode_pair, score_continuations
from llm_scratch.evaluation.loss import evaluate_text
from llm_scratch.storage.safe_parse import parse_json
from llm_scratch.storage.user_folders import expand_user

MAX_BYTES = 256 << 20  # of a file
MAX_CHOICES = 100
Question = Mapping[str, Any]


@dataclass(frozen=True)
class TaskScore:
    """The result of a task.

    Attributes:
        task: its name.
        metric: what was measured.
        value: the mean over the questions; for bits per byte, the ratio of the sums.
        stderr: its standard error; None if unknown.
        n_questions: number of questions.
    """

    task: str
    metric: str
    value: float
    stderr: float | None
    n_questions: int


def read_questions(path: str | Path) -> list[Question]:
    """Read a file of questions.

    Raises:
        UserError: unreadable, no JSON, or lines of different or unknown kinds; names the line
            (code 3).
    """
    path = expand_user(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"{path} has {size:,} bytes; expected at most {MAX_BYTES:,}", DATA)
        lines = path.read_bytes().splitlines()
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror}; check the path", DATA) from None
    questions: list[Question] = []
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        question = parse_json(line, f"{path}, line {n}", DATA)
        problem = _problem(question)
        if problem is None and questions and question.keys() != questions[0].keys():
            problem = f"it has other keys than the first: {', '.join(question)}"
        if problem is not None:
            raise UserError(f"{path}, line {n}: {problem}", DATA)
        questions.append(question)
    if not questions:
        raise UserError(f"{path} has no questions; expected one JSON object a line", DATA)
    return questions


def _problem(question: Question) -> str | None:
    """What is wrong with a question, or None."""
    if frozenset(question) not in KINDS:
        known = "; ".join(", ".join(sorted(keys)) for keys in KINDS)
        return f"its keys are {', '.join(question)[:80]}; expected those of one kind: {known}"
    for key in ("context", "target", "text"):
        if not isinstance(question.get(key, ""), str):
            return f"{key} is not a text"
    for key in ("target", "text"):
        if question.get(key) == "":
            return f"{key} is empty"
    if "choices" not in question:
        return None
    choices, answer = question["choices"], question["answer"]
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(choice, str) and choice for choice in choices)
    ):
        return f"choices is not a list of 2 to {MAX_CHOICES} texts"
    if type(answer) is not int or not 0 <= answer < len(choices):
        return f"answer is {str(answer)[:40]}; expected a number from 0 to {len(choices) - 1}"
    return None


def run_task(model: Any, tokenizer: Any, path: str | Path, batch_size: int = 16) -> list[TaskScore]:
    """Measure a model on a file of questions.

    Args:
        model, tokenizer: as from `load`.
        path: the file.
        batch_size: texts at once.
    Raises:
        UserError: as `read_questions`; a text that the model cannot read (code 3).
    """
    questions = read_questions(path)
    measure = KINDS[frozenset(questions[0])]
    return measure(model, tokenizer, Path(path).stem, questions, batch_size)


def cloze(
    model: Any, tokenizer: Any, name: str, questions: Sequence[Question], batch_size: int
) -> list[TaskScore]:
    """Accuracy: the share of questions for which greedy decoding generates the target."""
    rows = [encode_pair(model, tokenizer, q["context"], q["target"]) for q in questions]
    right = [score.is_greedy for score in score_continuations(model, rows, batch_size)]
    return [_mean(name, "accuracy", right)]


def multiple_choice(
    model: Any, tokenizer: Any, name: str, questions: Sequence[Question], batch_size: int
) -> list[TaskScore]:
    """Return the accuracy of the likeliest choice, and of the likeliest per character.

    Long choices have smaller probabilities for their length alone.
    """
    pairs = [(q["context"], choice) for q in questions for choice in q["choices"]]
    rows = [encode_pair(model, tokenizer, *pair) for pair in pairs]
    scores = iter(score_continuations(model, rows, batch_size))
    plain, normalized = [], []
    for question in questions:
        choices = question["choices"]
        nats = [next(scores).nats for _ in choices]
        per_character = [score / len(choice) for score, choice in zip(nats, choices)]
        plain.append(nats.index(max(nats)) == question["answer"])
        normalized.append(per_character.index(max(per_character)) == question["answer"])
    return [
        _mean(name, "accuracy", plain),
        _mean(name, "accuracy, per character", normalized),
    ]


def bits_per_byte(
    model: Any, tokenizer: Any, name: str, questions: Sequence[Question], batch_size: int
) -> list[TaskScore]:
    """Bits per byte over all texts, each read from its beginning."""
    losses = [
        evaluate_text(model, tokenizer, question["text"], batch_size=batch_size)
        for question in questions
    ]
    sizes = [loss.n_bytes or 0 for loss in losses]
    ratio, n = sum(loss.nats for loss in losses) / sum(sizes), len(losses)
    spread = sum((loss.nats - ratio * size) ** 2 for loss, size in zip(losses, sizes))
    stderr = math.sqrt(spread * n / (n - 1)) / sum(sizes) / math.log(2) if n > 1 else None
    return [TaskScore(name, "bits per byte", ratio / math.log(2), stderr, n)]


def _mean(name: str, metric: str, right: Sequence[bool]) -> TaskScore:
    """A mean of right answers; its standard error is that of the sample (divided by n - 1)."""
    n = len(right)
    mean = sum(right) / n
    stderr = math.sqrt(mean * (1 - mean) / (n - 1)) if n > 1 else None
    return TaskScore(name, metric, mean, stderr, n)


KINDS: dict[frozenset[str], Callable[..., list[TaskScore]]] = {
    frozenset({"context", "target"}): cloze,
    frozenset({"context", "choices", "answer"}): multiple_choice,
    frozenset({"text"}): bits_per_byte,
}
"""Keys of a question -> function of (model, tokenizer, name, questions, batch_size)."""
