"""Rules that choose settings: pure functions of text facts, a time and a machine's speed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_scratch.planning import rules
from llm_scratch.planning.rules import Budget
from llm_scratch.planning.text_facts import TextFacts

LAPTOP = Budget(300, 1e11)
SERVER = Budget(300, 4e14)
BOOKS = TextFacts(2_200_000, 2_200_000, 96, 3, 55_000, 1_100_000)
STORY = TextFacts(20_500, 20_479, 62, 1, 165, 20_479)
CHINESE = TextFacts(5_500_000, 1_860_000, 4700, 1, 19_000, 1_860_000)
POEMS = TextFacts(118_000, 118_000, 64, 300, 4500, 500)


@pytest.mark.parametrize(
    ("facts", "name", "size"),
    [
        (STORY, "chars", 63),
        (POEMS, "chars", 65),
        (replace(CHINESE, n_bytes=300_000, n_characters=100_000, n_distinct=2676), "chars", 2677),
        (BOOKS, "bpe", 4096),
        (CHINESE, "bpe", 4096),
        (replace(CHINESE, n_bytes=900_000, n_characters=300_000), "bpe", 2048),
        (replace(STORY, n_distinct=9000), "bpe", 512),
        (replace(BOOKS, n_distinct=2000), "bpe", 4096),
    ],
)
def test_tokenizer_is_characters_for_small_and_bpe_for_large_texts(facts, name, size):
    settings = rules.choose_tokenizer(facts, LAPTOP).settings
    assert (settings["data.tokenizer"], settings["model.vocab_size"]) == (name, size)


def test_vocabulary_grows_with_text_and_time():
    def size(factor, budget):
        return rules.choose_tokenizer(
            replace(BOOKS, n_characters=factor * 200_000), budget
        ).settings["model.vocab_size"]

    assert (
        size(1, LAPTOP)
        < size(4, LAPTOP)
        <= size(100, LAPTOP)
        < size(100, SERVER)
        <= rules.MAX_VOCABULARY
    )
    assert size(100, Budget(30, 1e11)) < size(100, LAPTOP)


def test_vocabulary_of_a_long_text_is_trained_on_a_sample():
    assert "data.tokenizer_sample" not in rules.choose_tokenizer(BOOKS, LAPTOP).settings
    long = replace(BOOKS, n_characters=50_000_000)
    assert (
        rules.choose_tokenizer(long, LAPTOP).settings["data.tokenizer_sample"]
        == rules.SAMPLE_ALPHABET
    )
    many = replace(CHINESE, n_bytes=150_000_000, n_characters=50_000_000)
    assert (
        rules.choose_tokenizer(many, LAPTOP).settings["data.tokenizer_sample"]
        == 300 * rules.SAMPLE_MANY_PER_SECOND
    )


@pytest.mark.parametrize(
    ("n_documents", "n_tokens", "fraction", "split"),
    [
        (1, 18_000, 0.1, "tokens"),
        (3, 700_000, 0.1, "tokens"),
        (300, 100_000, 0.1, "documents"),
        (1, 16_000_000, 0.0125, "tokens"),
    ],
)
def test_validation_split_by_documents_and_tokens(n_documents, n_tokens, fraction, split):
    settings = rules.choose_split(n_documents, n_tokens).settings
    assert settings == {"data.val_fraction": fraction, "data.split": split}


def test_short_documents_are_rows_and_long_ones_are_windows():
    short = rules.choose_rows(
        replace(POEMS, typical_document=150), 118_000, 11_800, LAPTOP
    ).settings
    assert short == {"data.order": "documents", "model.context_length": 160}
    for facts in (BOOKS, replace(POEMS, typical_document=5000), replace(POEMS, n_documents=20)):
        assert (
            rules.choose_rows(facts, facts.n_characters, facts.n_characters / 10, LAPTOP).settings[
                "data.order"
            ]
            == "shuffled"
        )


def test_rows_are_at_most_a_quarter_of_the_validation_text():
    for n_val in (40, 100, 600, 10**6):
        context = rules.choose_rows(STORY, 10 * n_val, n_val, LAPTOP).settings[
            "model.context_length"
        ]
        assert rules.MIN_CONTEXT <= context <= max(rules.MIN_CONTEXT, n_val / 4)


def speed(size):
    """Parameters of a size, and tokens a second of a machine that reaches 3e10 FLOP/s with each."""
    layers, width = size
    n_params = 12 * layers * width**2 + 2 * 2048 * width
    return n_params, 3e10 / (6 * n_params)


def test_model_grows_with_time_and_text():
    def layers_and_width(n_train, seconds):
        settings = rules.choose_size(n_train, speed, seconds).settings
        return settings["model.n_layers"], settings["model.emb_dim"]

    sizes = [layers_and_width(10**9, seconds) for seconds in (1, 1000, 20_000, 10**9)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] == rules.SIZES[0]
    assert sizes[-1] == rules.SIZES[-1]
    small = [layers_and_width(n_train, 10**9) for n_train in (1000, 100_000, 1_000_000)]
    assert small == sorted(set(small))
    assert small[0] == rules.SIZES[0]


def test_reason_states_whether_text_or_time_is_short():
    assert "overfit" in rules.choose_size(10_000, speed, 10**9).reason
    assert "takes longer" in rules.choose_size(10**9, speed, 60).reason
    assert "no larger" in rules.choose_size(10**9, speed, 10**9).reason


def test_choose_size_measures_no_irrelevant_size():
    timed = []
    rules.choose_size(10**9, lambda size: timed.append(size) or speed(size), 60)
    assert len(timed) < len(rules.SIZES) - 1


def test_dropout_rises_with_the_epochs():
    rates = [rules.dropout(epochs) for epochs in (0.1, 2, 5, 12, 40)]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (0.0, 0.2)


def test_batches_grow_with_the_tokens_that_a_run_sees():
    def tokens_per_step(tokens):
        return 128 * rules.choose_batch(10**9, tokens, 128).settings["train.batch_size"]

    assert (
        tokens_per_step(1e4)
        < tokens_per_step(1e6)
        == rules.MIN_BATCH_TOKENS
        < tokens_per_step(5e6)
        < tokens_per_step(1e10)
        == rules.MAX_BATCH_TOKENS
    )


def test_steps_fill_the_time_up_to_the_limit_of_the_text():
    timed = rules.choose_steps(300, 0.15, 1536, 700_000)
    assert timed.settings == {"train.steps": 2000}
    assert "time" in timed.reason
    bounded = rules.choose_steps(3000, 0.01, 1024, 18_000)
    assert bounded.settings["train.steps"] * 1024 == pytest.approx(
        rules.MAX_EPOCHS * 18_000, rel=0.01
    )
    assert "more steps would gain nothing" in bounded.reason


@pytest.mark.parametrize("steps", [1, 7, 100, 717, 2000, 100_000])
def test_intervals_keep_to_their_share_of_the_time(steps):
    settings = rules.choose_intervals(steps).settings
    evaluations = steps / settings["train.eval_every"]
    assert evaluations <= rules.EVALUATIONS
    cost = 2 * evaluations * settings["train.eval_batches"] / rules.FORWARD_COST  # in steps
    assert cost <= max(
        1.1 * rules.EVALUATION_SHARE * steps, 2 * rules.EVALUATIONS * 4 / rules.FORWARD_COST
    )
    assert all(value >= 1 for name, value in settings.items() if name != "train.warmup_steps")


def losses(*pairs):
    return [
        {"step": 100.0 * i, "train_loss": train, "val_loss": val}
        for i, (train, val) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("curve", "epochs", "expected"),
    [
        (losses((4, 4), (3, 3.1), (2.5, 2.7)), 2.0, "more time.*--minutes 10"),
        (
            losses((4, 4), (2, 2.5), (0.5, 3.5)),
            20.0,
            "more text: the model has read this text 20 times",
        ),
        (
            losses((4, 4), (3, 3), (1.5, 2.5)),
            20.0,
            "more text: the training loss of 1.50 is far below",
        ),
        (
            losses((4, 4), (3, 3), (2.4, 2.5)),
            40.0,
            "more text: the model has read this text 40 times",
        ),
    ],
)
def test_advice_names_text_or_time(curve, epochs, expected):
    import re

    (line,) = rules.advice(curve, epochs, 5)
    assert re.match(expected, line)


def test_advice_is_empty_without_a_curve():
    assert rules.advice([], 0, 5) == []
