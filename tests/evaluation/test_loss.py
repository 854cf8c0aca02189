"""Exact evaluation counts every token once for any windows; bits per byte compare tokenizers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from no_float64 import OnSuchADevice, WithoutFloat64
from torch import nn

from llm_scratch.errors import DATA, USAGE, UserError
from llm_scratch.evaluation import loss as room
from llm_scratch.evaluation.loss import Loss, evaluate_text, evaluate_tokens, in_float64
from llm_scratch.model.gpt import GPTModel
from llm_scratch.tokenizers import ByteBPE

CFG = {
    "vocab_size": 257,
    "context_length": 8,
    "emb_dim": 16,
    "n_heads": 2,
    "n_layers": 2,
    "drop_rate": 0.5,
    "qkv_bias": False,
}
TEXT = "A fox, né Ünder 🦊, sat."


class Bytes:
    n_vocab, eot_token = 257, 256

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        return list(text.encode())

    def decode_bytes(self, ids):
        return b"".join(b"<|endoftext|>" if i == 256 else bytes([i]) for i in ids)


class Pairs(Bytes):
    """Another vocabulary for the same text: two bytes per token."""

    n_vocab, eot_token = 65537, 65536

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        data = text.encode() + b" " * (len(text.encode()) % 2)
        return [256 * a + b for a, b in zip(data[::2], data[1::2])]

    def decode_bytes(self, ids):
        return b"".join(divmod(i, 256)[0].to_bytes(1, "big") + bytes([i % 256]) for i in ids)


class Even(nn.Module):
    """A model with a uniform distribution over its vocabulary."""

    def __init__(self, vocab):
        super().__init__()
        self.vocab = vocab

    def forward(self, in_idx):
        return torch.zeros(*in_idx.shape, self.vocab)


@pytest.fixture
def model():
    torch.manual_seed(3)
    return GPTModel(CFG)


@pytest.fixture
def ids():
    return torch.randint(0, 257, (45,), generator=torch.Generator().manual_seed(4)).tolist()


@torch.no_grad()
def by_formula(model, ids, size, stride):
    """Score every target with a forward pass of its own window."""
    was, total, scored = model.training, 0.0, 0
    model.eval()
    for start in range(0, len(ids), stride):
        window = torch.tensor(ids[start : start + size + 1])
        probabilities = model(window[None, :-1]).softmax(-1)[0]
        for place in range(size - stride if start else 0, len(window) - 1):
            total -= math.log(probabilities[place, window[place + 1]])
            scored += 1
        if start + size + 1 >= len(ids):
            break
    model.train(was)
    return total, scored


@pytest.mark.parametrize("n", [2, 3, 8, 9, 10, 17, 18, 44, 45])
@pytest.mark.parametrize(("size", "stride"), [(8, 8), (8, 3), (8, 1), (5, 5), (5, 4), (1, 1)])
def test_evaluate_tokens_equals_the_formula_for_every_ragged_end(model, ids, n, size, stride):
    want, scored = by_formula(model, ids[:n], size, stride)
    got = evaluate_tokens(model, ids[:n], size, batch_size=3, stride=stride)
    assert got.n_tokens == scored == n - 1
    assert got.nats == pytest.approx(want, rel=1e-5)


def test_evaluation_gives_the_same_loss_on_a_device_without_float64(model, ids):
    assert evaluate_tokens(OnSuchADevice(model), ids).nats == evaluate_tokens(model, ids).nats


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_float64_keeps_every_value(dtype):
    x = torch.randn(5, generator=torch.Generator().manual_seed(1)).to(dtype)
    for tensor in (x, x.as_subclass(WithoutFloat64)):
        doubled = in_float64(tensor)
        assert doubled.dtype == torch.float64
        assert doubled.tolist() == x.tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_evaluate_tokens_does_not_depend_on_the_batch_size(model, ids, batch_size):
    assert evaluate_tokens(model, ids, batch_size=batch_size).nats == pytest.approx(
        evaluate_tokens(model, ids).nats, rel=1e-6
    )


def test_evaluate_tokens_differs_from_the_mean_of_batches(model, ids):
    """Compare with the notebooks' calc_loss_loader on five windows of 8 and one of 4."""
    ids = ids[:45]
    parts = [by_formula(model, ids[i : i + 9], 8, 8) for i in range(0, 44, 8)]
    mean_of_means = sum(nats / n for nats, n in parts) / len(parts)
    exact = evaluate_tokens(model, ids).nats_per_token
    assert exact == pytest.approx(sum(nats for nats, _ in parts) / 44, rel=1e-5)
    assert abs(mean_of_means - exact) > 1e-3


def test_evaluate_tokens_bounds_memory_by_smaller_batches(model, ids, monkeypatch):
    seen = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda in_idx: seen.append(tuple(in_idx.shape)) or forward(in_idx)
    )
    want = evaluate_tokens(model, ids, batch_size=6).nats
    assert seen == [(6, 8)]
    seen.clear()
    monkeypatch.setattr(room, "MAX_LOGITS", 2 * 8 * 257 + 5)
    assert evaluate_tokens(model, ids, batch_size=6).nats == pytest.approx(want, rel=1e-6)
    assert seen == [(2, 8)] * 3
    monkeypatch.setattr(room, "MAX_LOGITS", 1)
    assert evaluate_tokens(model, ids, batch_size=6).n_tokens == 44


def test_loss_windows_do_not_exceed_the_context(model, ids):
    assert (
        evaluate_tokens(model, ids, 1000)
        == evaluate_tokens(model, ids, 8)
        == evaluate_tokens(model, ids)
    )


@pytest.mark.parametrize("kind", ["tensor", "int64", "uint16", "file"])
def test_evaluate_tokens_accepts_every_kind_of_ids(model, ids, kind, tmp_path):
    array = np.array(ids, dtype=np.uint16 if kind in ("uint16", "file") else np.int64)
    if kind == "file":
        array.tofile(tmp_path / "ids")
        array = np.memmap(tmp_path / "ids", dtype=np.uint16, mode="r")
    given = torch.tensor(ids) if kind == "tensor" else array
    assert evaluate_tokens(model, given) == evaluate_tokens(model, ids)


def test_evaluate_tokens_restores_modes_and_gradients(model, ids):
    model.trf_blocks[0].eval()
    before = [part.training for part in model.modules()]
    evaluate_tokens(model, ids)
    assert [part.training for part in model.modules()] == before
    assert torch.is_grad_enabled()
    assert evaluate_tokens(model, ids) == evaluate_tokens(model, ids), "dropout is off"


def test_loss_of_a_uniform_model():
    loss = evaluate_text(Even(256), Bytes(), TEXT)
    n = len(TEXT.encode())
    assert (loss.n_tokens, loss.n_bytes) == (n, n)
    assert loss.nats_per_token == pytest.approx(math.log(256))
    assert loss.perplexity == pytest.approx(256)
    assert loss.bits_per_byte == pytest.approx(8)


def test_bits_per_byte_do_not_depend_on_the_tokenizer():
    """Both models are uniform over bytes; one of them predicts two bytes at a time."""
    text = TEXT + "." * (len(TEXT.encode()) % 2)
    one, two = evaluate_text(Even(256), Bytes(), text), evaluate_text(Even(65536), Pairs(), text)
    assert one.nats_per_token != pytest.approx(two.nats_per_token)
    assert one.bits_per_byte == pytest.approx(two.bits_per_byte) == pytest.approx(8)


def test_loss_scores_the_first_byte(model):
    ids = [256, *TEXT.encode()]
    assert evaluate_text(model, Bytes(), TEXT).nats == evaluate_tokens(model, ids).nats
    tokenizer = Bytes()
    tokenizer.eot_token = None
    loss = evaluate_text(model, tokenizer, TEXT)
    assert (loss.n_tokens, loss.n_bytes) == (len(TEXT.encode()) - 1,) * 2
    assert loss.nats == evaluate_tokens(model, ids[1:]).nats


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("stride", [None, 1])
def test_every_window_begins_with_the_start_of_its_model(model, monkeypatch, size, stride):
    """The start token replaces a token, so a window repeats the last token before it."""
    monkeypatch.setattr(model, "start_id", 7)
    ids = [7, *TEXT.encode()]
    step = max(1, stride or size - 1)
    want = 0.0
    for target in range(1, len(ids)):
        window = max(0, -(-(target - size) // step)) * step
        row = [7, *ids[window + 1 : target]]
        model.eval()
        want -= model(torch.tensor([row])).log_softmax(-1)[0, -1, ids[target]].item()
    got = evaluate_text(model, Bytes(), TEXT, size, batch_size=3, stride=stride)
    assert (got.n_tokens, got.n_bytes) == (len(ids) - 1,) * 2
    assert got.nats == pytest.approx(want, rel=1e-5)


def test_lone_surrogate_counts_as_its_replacement_character():
    tokenizer = ByteBPE(())
    assert evaluate_text(Even(257), tokenizer, "a\ud800") == (
        evaluate_text(Even(257), tokenizer, "a\ufffd")
    )


def test_end_of_text_adds_nats_but_no_bytes(model):
    ids = [256, 65, 66, 256, 67, 256]
    loss = evaluate_tokens(model, ids, tokenizer=Bytes())
    assert (loss.n_tokens, loss.n_bytes) == (5, 3)
    assert loss.nats == pytest.approx(by_formula(model, ids, 8, 8)[0], rel=1e-5)


@pytest.mark.parametrize("stride", [None, 3])
def test_bytes_are_counted_once_however_windows_overlap(model, stride):
    loss = evaluate_tokens(
        model, [256, *TEXT.encode()], stride=stride, batch_size=2, tokenizer=Bytes()
    )
    assert loss.n_bytes == len(TEXT.encode())


def test_special_tokens_in_a_text_are_text(model, gpt2):
    assert evaluate_text(Even(gpt2.n_vocab), gpt2, "a<|endoftext|>b").n_tokens > 3


def test_sums_of_losses_are_exact():
    both = Loss(2.0, 4, 8) + Loss(3.0, 6, 12)
    assert both == Loss(5.0, 10, 20)
    assert (Loss(1.0, 1, 2) + Loss(1.0, 1)).n_bytes is None
    assert Loss(1.0, 1).bits_per_byte is None
    assert Loss(1e6, 1).perplexity == math.inf


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"ids": []}, DATA, "at least 2 tokens.* has 0"),
        ({"ids": [5]}, DATA, "at least 2 tokens.* has 1"),
        ({"ids": [5, 6, 257, 7]}, DATA, "257 is outside the model's vocabulary of 257"),
        ({"batch_size": 0}, USAGE, "batch_size: 0 is out"),
        ({"context_length": 0}, USAGE, "context_length: 0 is out"),
        ({"stride": 0}, USAGE, "stride: 0 is out"),
        ({"stride": 9, "context_length": 8}, USAGE, "stride=9 would skip tokens"),
        ({"stride": 9}, USAGE, "stride=9 would skip tokens"),
    ],
)
def test_evaluate_tokens_errors_name_the_argument(model, ids, settings, code, words):
    with pytest.raises(UserError, match=words) as error:
        evaluate_tokens(model, **({"ids": ids} | settings))
    assert error.value.code == code
    assert model.training
