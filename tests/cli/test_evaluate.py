"""`evaluate` gives the values of the library, with a correct standard error."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from llm_scratch.cli.commands.evaluate import N_GROUPS, eval_spans, evaluate_with_stderr
from llm_scratch.cli.run_text import sample_in_words
from llm_scratch.config import DataConfig, GPTConfig, RunConfig
from llm_scratch.data.corpus import encode_documents, prepare
from llm_scratch.data.sources import read
from llm_scratch.evaluation.loss import evaluate_tokens
from llm_scratch.loading import load
from llm_scratch.run_directory import find_run, open_run

QUIET = Console(file=io.StringIO())


def test_evaluate_uses_the_validation_text_of_the_run(llm, trained):
    model, tokenizer = load(trained)
    ids = prepare(find_run(trained).config).val
    want = evaluate_tokens(model, ids, tokenizer=tokenizer)
    out = llm("evaluate", trained, "--device", "cpu").out
    assert f"{want.nats_per_token:.4f} nats per token" in out
    assert f"{want.perplexity:.2f}" in out
    assert re.search(rf"bits per byte +{want.bits_per_byte:.4f} ± 0\.\d\d\d\d", out)
    assert f"{want.n_tokens:,} tokens" in out
    assert re.search(
        r"computed on +cpu, \d threads? \(as requested\), float32 \(for measurements\)", out
    )


@pytest.mark.parametrize("flag", ["--text", "--source"])
def test_evaluate_accepts_another_text(flag, llm, trained, tmp_path):
    (tmp_path / "other.txt").write_text("the red hen sat on the fox. " * 5)
    model, tokenizer = load(trained)
    want = evaluate_tokens(
        model, encode_documents(read(f"file:{tmp_path}/other.txt"), tokenizer), tokenizer=tokenizer
    )
    result = llm("evaluate", trained, flag, "other.txt" if flag == "--text" else "file:other.txt")
    assert f"{want.nats_per_token:.4f} nats per token" in result.out
    assert "other.txt: 139 tokens, 139 bytes" in " ".join(result.out.split())


@pytest.mark.parametrize("n", [2, 16, 17, 18, 100, 16 * N_GROUPS, 16 * N_GROUPS + 2, 3000])
def test_parts_of_a_text_add_up_to_the_whole_at_every_length(n, trained_once):
    model, tokenizer = load(trained_once)
    ids = np.random.default_rng(n).integers(0, 16, n)
    loss, error = evaluate_with_stderr(model, tokenizer, ids, QUIET)
    want = evaluate_tokens(model, ids, tokenizer=tokenizer)
    assert (loss.n_tokens, loss.n_bytes) == (want.n_tokens, want.n_bytes) == (n - 1, want.n_bytes)
    assert loss.nats == pytest.approx(want.nats, rel=1e-6)
    assert math.isnan(error) == (n <= 17)


def test_evaluate_measures_a_model_of_documents_on_documents(trained_once):
    """Evaluate rows that begin with a start token, as in training.

    A window from the middle of a document would be text that the model never saw.
    """
    model, tokenizer = load(trained_once)
    model.start_id = eot = tokenizer.eot_token
    ids = np.array([eot, 5, 6, 7, eot, 8, 9, eot, *[4] * 40, eot])
    loss, _ = evaluate_with_stderr(model, tokenizer, ids, QUIET)
    want = [
        evaluate_tokens(model, ids[a:b], tokenizer=tokenizer, start_id=eot)
        for a, b in ((0, 5), (4, 8), (7, 49))
    ]
    assert loss.n_tokens == len(ids) - 1 == sum(part.n_tokens for part in want)
    assert loss.nats == pytest.approx(sum(part.nats for part in want), rel=1e-6)
    assert loss.nats != pytest.approx(evaluate_tokens(model, ids).nats, rel=1e-6)


class Coin(torch.nn.Module):
    """A model with known losses: uniform over `k` of 64 letters, with another k per window."""

    cfg = GPTConfig(context_length=16, vocab_size=64)
    start_id = None

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, ids, cache=None):
        k = ids[:, :1, None] + 2.0  # the first letter of a window determines its loss
        likely = torch.arange(64)[None, None, :] < k
        return torch.where(likely, 0.0, -30.0).expand(len(ids), ids.shape[1], 64)


class Letters:
    """Each id is one byte."""

    eot_token = 63

    def decode_bytes(self, ids):
        return bytes(65 for _ in ids)


def test_standard_error_equals_the_spread_over_texts(monkeypatch):
    monkeypatch.setattr("llm_scratch.cli.commands.evaluate.N_GROUPS", 16)
    rng = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(30):
        hard = rng.integers(0, 40, 64)
        ids = np.array([i for h in hard for i in (h, *rng.integers(0, 2, 15))])
        loss, error = evaluate_with_stderr(Coin(), Letters(), ids, QUIET)
        found.append(loss.bits_per_byte)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(
        np.std(found), rel=0.4
    )  # 30 draws determine a spread to about 13 %


def test_evaluate_and_training_agree_on_equal_text(llm, tiny, tmp_path):
    """Five commands agree on a run: training samples the validation text, `evaluate` reads all."""
    run = tmp_path / "run"
    trained = llm(*tiny, "--out", run).out
    shown = llm("runs", "show", run).out
    listed = llm("runs", "list", tmp_path).out
    evaluated = llm("evaluate", run).out
    last = open_run(run).metrics[-1]
    loss, bits = f"{last['val_loss']:.4f}", f"{last['val_bits_per_byte']:.4f}"
    assert f"validation loss {loss}  train loss" in trained
    assert f"{loss} nats per token, {bits} bits per byte, on 2 of " in " ".join(trained.split())
    assert re.search(rf"^ +4 .* {loss} +{bits}$", shown, re.M)
    assert "validation loss on 2 batches; " in shown
    assert re.search(rf" {last['val_loss']:.3f} +{last['val_bits_per_byte']:.3f} ", listed)
    words = " ".join(evaluated.split())
    assert (
        f"during training {loss} nats per token, {bits} bits per byte at step 4, on 2 batches of"
        " the run's validation text" in words
    )
    assert ", every token: " in words
    assert "during training" not in llm("evaluate", run, "--source", "stories:2").out


@pytest.mark.parametrize("order", ["shuffled", "documents"])
def test_training_and_evaluate_give_the_same_loss_on_every_token(llm, tiny, tmp_path, order):
    """An undivided text ends in a shorter row; each of 40 documents is a row."""
    (tmp_path / "docs.jsonl").write_text('{"text": "the hen sat"}\n{"text": "a fox"}\n' * 20)
    words = ["--data.source", "file:docs.jsonl"] if order == "documents" else []
    run = tmp_path / "run"
    words += ["--data.order", order, "--train.eval-batches", "None", "--out", run]
    trained = llm(*tiny, *words).out
    found = json.loads(llm("evaluate", run, "--json").out)
    last = open_run(run).metrics[-1]
    assert last["val_loss"] == pytest.approx(found["loss_nats"], rel=1e-5)
    assert last["val_bits_per_byte"] == pytest.approx(found["bits_per_byte"], rel=1e-5)
    tokens = "the first 16 tokens of every document" if order == "documents" else "every token"
    assert f"on {tokens}" in " ".join(trained.split())
    assert f"on {tokens}" in " ".join(llm("runs", "show", run).out.split())


@pytest.mark.parametrize(
    ("read", "batches", "order", "sentence"),
    [
        (8, 20, "shuffled", "8 of 20 batches"),
        (8, None, "shuffled", "8 batches"),
        (None, 20, "shuffled", "every token"),
        (8, 8, "shuffled", "every token"),
        (None, 20, "notebook", "all whole rows"),
        (None, 20, "documents", "the first 1,024 tokens of every document"),
    ],
)
def test_evaluate_states_the_share_of_text_in_training_evaluations(read, batches, order, sentence):
    config = RunConfig(data=DataConfig(order=order))
    config = replace(config, train=replace(config.train, eval_batches=read))
    assert sample_in_words(config, batches) == sentence


@pytest.mark.parametrize(
    ("ids", "start_id", "spans"),
    [
        ([2, 7, 2, 8, 9, 2], 2, [(0, 3), (2, 6)]),
        ([1, 7, 1, 8, 9], 1, [(0, 2), (2, 5)]),
        ([6, 2, 7, 2, 8, 9, 2], 1, [(0, 2), (1, 4), (3, 7)]),
        ([6, 7, 8], 1, [(0, 5)]),
    ],
    ids=["the end of text", "another token", "only ends of text", "one document"],
)
def test_model_with_a_start_token_is_evaluated_document_by_document(ids, start_id, spans):
    assert eval_spans(ids, 4, start_id, eot=2) == spans
