"""Tasks from files: each kind measures its metrics; an invalid line is named."""

import json
import math

import pytest
import torch
from torch import nn

from llm_scratch.errors import DATA, UserError
from llm_scratch.evaluation.loss import evaluate_text
from llm_scratch.evaluation.tasks import read_questions, run_task
from llm_scratch.tokenizers import ByteBPE


class Alphabet(nn.Module):
    """A model that gives the next letter of the alphabet a probability of 1/2."""

    def __init__(self, vocab_size):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, 1)
        self.start_id = None
        self.cfg = {"vocab_size": vocab_size, "context_length": 64}

    def forward(self, ids):
        n = self.cfg["vocab_size"]
        probability = torch.full((*ids.shape, n), 0.5 / (n - 1))
        return probability.scatter(-1, (ids[..., None] + 1) % n, 0.5).log()


@pytest.fixture(scope="module")
def tokenizer():
    return ByteBPE([])


@pytest.fixture(scope="module")
def model(tokenizer):
    return Alphabet(tokenizer.n_vocab)


@pytest.fixture
def write(tmp_path):
    def write(*questions):
        path = tmp_path / "letters.jsonl"
        path.write_text("".join(json.dumps(question) + "\n" for question in questions) + "\n")
        return path

    return write


def test_cloze_counts_targets_of_likeliest_tokens(model, tokenizer, write):
    path = write(
        {"context": "abc", "target": "def"},
        {"context": "abc", "target": "dex"},
        {"context": "x", "target": "y"},
        {"context": "x", "target": "x"},
    )
    (score,) = run_task(model, tokenizer, path)
    assert (score.task, score.metric, score.value, score.n_questions) == (
        "letters",
        "accuracy",
        0.5,
        4,
    )
    assert score.stderr == pytest.approx(math.sqrt(0.25 / 3))


def test_multiple_choice_is_measured_with_and_without_the_length(model, tokenizer, write):
    path = write(
        {
            "context": "a",
            "choices": ["bcd", "z"],
            "answer": 0,
        },  # 3 ln 2 < ln 514: correct with and without the length
        {"context": "a", "choices": ["bcdefghijklm", "z"], "answer": 0},  # right per character only
    )
    plain, normalized = run_task(model, tokenizer, path)
    assert (plain.metric, plain.value) == ("accuracy", 0.5)
    assert (normalized.metric, normalized.value) == ("accuracy, per character", 1.0)


def test_bits_per_byte_is_that_of_all_bytes(model, tokenizer, write):
    texts = ["abc", "xyz a", "Größe"]
    (score,) = run_task(model, tokenizer, write(*({"text": text} for text in texts)))
    losses = [evaluate_text(model, tokenizer, text) for text in texts]
    total = sum(loss.nats for loss in losses) / sum(len(text.encode()) for text in texts)
    assert score.value == pytest.approx(total / math.log(2))
    assert score.metric == "bits per byte"
    assert 0 < score.stderr < score.value


WRONG = {
    "no JSON": ("{", "line 1 is not JSON"),
    "twice a key": ('{"text": "a", "text": "b"}', "duplicate key 'text'"),
    "an unknown key": ('{"question": "?"}', "line 1: its keys are question; expected those of one"),
    "two kinds": ('{"text": "a"}\n{"context": "a", "target": "b"}', "line 2: it has other keys"),
    "a number": ('{"text": 7}', "line 1: text is not a text"),
    "an empty text": ('{"text": ""}', "line 1: text is empty"),
    "an empty target": ('{"context": "a", "target": ""}', "line 1: target is empty"),
    "one choice": ('{"context": "a", "choices": ["b"], "answer": 0}', "line 1: choices is not a"),
    "an empty choice": ('{"context": "a", "choices": ["b", ""], "answer": 0}', "choices is not a"),
    "no such answer": (
        '{"context": "a", "choices": ["b", "c"], "answer": 2}',
        "line 1: answer is 2; expected a number from 0 to 1",
    ),
    "true": ('{"context": "a", "choices": ["b", "c"], "answer": true}', "answer is True"),
    "nothing": ("\n\n", "has no questions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_task_line_is_an_error_with_its_number(name, tmp_path):
    content, reason = WRONG[name]
    path = tmp_path / "wrong.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_questions(path)
    assert caught.value.code == DATA
    assert "wrong.jsonl" in str(caught.value)


def test_missing_task_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*none.jsonl"):
        read_questions(tmp_path / "none.jsonl")
