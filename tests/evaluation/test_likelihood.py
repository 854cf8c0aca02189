"""Log-likelihoods equal the sum over the model's own probabilities, in any batch and cut."""

import math

import pytest
import torch

from llm_scratch.architectures import GPTConfig
from llm_scratch.errors import UserError
from llm_scratch.evaluation.likelihood import encode_pair, score_continuations
from llm_scratch.model import build
from llm_scratch.tokenizers import ByteBPE, CharTokenizer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    model = build(
        GPTConfig(
            vocab_size=260, context_length=12, emb_dim=16, n_heads=2, n_layers=1, drop_rate=0.5
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def by_hand(model, context, continuation):
    """Score one token at a time after the last 12 tokens before it."""
    model.eval()
    total, greedy, ids = 0.0, True, list(context)
    with torch.no_grad():
        for token in continuation:
            logits = model(torch.tensor([ids[-12:]]))[0, -1].double()
            total += logits.log_softmax(-1)[token].item()
            greedy &= logits.argmax().item() == token
            ids.append(token)
    return total, greedy


def test_loglikelihood_equals_the_sum_over_each_token(model):
    draw = torch.Generator().manual_seed(2)
    rows = [
        tuple(torch.randint(260, (n,), generator=draw).tolist() for n in (context, length))
        for context, length in ((1, 1), (3, 4), (11, 1), (5, 7), (2, 2), (1, 11))
    ]
    best = model.eval()(torch.tensor([rows[1][0]]))[0, -1].argmax().item()
    rows.append((rows[1][0], [best]))
    model.train()
    for batch_size in (1, 3, 16):
        scores = score_continuations(model, rows, batch_size)
        for row, score in zip(rows, scores):
            nats, greedy = by_hand(model, *row)
            assert score.nats == pytest.approx(nats, rel=1e-5)
            assert score.is_greedy == greedy
        assert scores[-1].is_greedy
        model.train()
        assert score_continuations(model, rows)
        assert model.training


def test_loglikelihood_truncates_a_long_row_on_the_left(model):
    context, continuation = list(range(20)), [5, 6, 7]
    (score,) = score_continuations(model, [(context, continuation)])
    (cut,) = score_continuations(model, [(context[-10:], continuation)])
    assert score == cut
    (long,) = score_continuations(model, [([1], list(range(30)))])
    (end,) = score_continuations(model, [([17], list(range(18, 30)))])
    assert long.nats == pytest.approx(end.nats)
    assert math.isfinite(long.nats)


def test_space_between_belongs_to_the_continuation(model):
    tokenizer = ByteBPE.train(["the cat sat " * 9], 259)
    plain = encode_pair(model, tokenizer, "the cat", " sat")
    assert encode_pair(model, tokenizer, "the cat ", "sat") == plain
    assert plain[0] + plain[1] == tokenizer.encode("the cat sat")
    assert encode_pair(model, tokenizer, "", "the") == (
        [tokenizer.eot_token],
        tokenizer.encode("the"),
    )
    model.start_id = 7
    assert encode_pair(model, tokenizer, "the", " cat")[0] == [7, *tokenizer.encode("the")]
    assert encode_pair(model, tokenizer, "", "the")[0] == [7]
    model.start_id = None


def test_empty_context_without_a_start_token_is_an_error(model):
    letters = CharTokenizer.train(["abc"], end_of_text=False)
    with pytest.raises(UserError, match="no end-of-text token; give each question a context"):
        encode_pair(model, letters, "", "a")
    with pytest.raises(UserError, match="at least one token"):
        score_continuations(model, [([1], [])])
