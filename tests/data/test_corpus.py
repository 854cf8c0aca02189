"""Documents become training and validation ids.

The split loses nothing, and validation text trains no tokenizer.
"""

import dataclasses
import os

import numpy as np
import pytest
from sentencepiece_style import sentencepiece

from llm_scratch.config import DataConfig, GPTConfig, RunConfig
from llm_scratch.data.corpus import (
    N_SPANS,
    count_bytes,
    encode_documents,
    prepare,
    sample_text,
    split_documents,
    split_tokens,
)
from llm_scratch.data.sharding import make_shards
from llm_scratch.data.sources import SOURCES
from llm_scratch.errors import DATA, USAGE, UserError
from llm_scratch.tokenizers import TOKENIZERS, LibraryTokenizer
from llm_scratch.tokenizers.special import target_bytes

STORIES = [
    f"{name} had {n} apples and gave one away. The end of it."
    for n, name in enumerate(["Mia", "Ben", "Zoë", "Ida", "Lev", "Kim"])
]


@pytest.fixture(autouse=True)
def _texts(monkeypatch):
    monkeypatch.setitem(SOURCES, "many", lambda argument: STORIES * int(argument or 1))
    monkeypatch.setitem(SOURCES, "one", lambda argument: [" ".join(STORIES)])


def settings(source="many:5", tokenizer="chars", vocab_size=60, context_length=16, **data):
    model = GPTConfig(
        vocab_size=vocab_size, context_length=context_length, emb_dim=12, n_heads=3, n_layers=1
    )
    return RunConfig(model, DataConfig(source=source, tokenizer=tokenizer, **data))


def test_documents_are_separated_by_ends_of_text():
    tokenizer = TOKENIZERS["chars"](STORIES)
    ids = encode_documents(STORIES[:2], tokenizer)
    end = tokenizer.eot_token
    assert ids.tolist() == [
        end,
        *tokenizer.encode(STORIES[0]),
        end,
        *tokenizer.encode(STORIES[1]),
        end,
    ]
    assert encode_documents(STORIES[:1], tokenizer).tolist() == tokenizer.encode(STORIES[0])


def test_special_token_in_a_document_is_text():
    texts = ["say <|endoftext|> aloud", "and again"]
    tokenizer = TOKENIZERS["bpe"](texts, 262)
    ids = encode_documents(texts, tokenizer)
    assert (ids == tokenizer.eot_token).sum() == 3
    assert tokenizer.decode([i for i in ids if i != tokenizer.eot_token]) == "".join(texts)


@pytest.mark.parametrize("kind", ["Llama", "Gemma"])
@pytest.mark.parametrize("n", [1, 3])
def test_byte_count_excludes_a_space_added_by_the_tokenizer(kind, n):
    pytest.importorskip("tokenizers", reason="runs these tokenizers; install the hf extra")
    tokenizer = LibraryTokenizer(sentencepiece(kind), end_of_text="</s>")
    texts = ["the cat sat", "né on", "a fox"][:n]
    ids = encode_documents(texts, tokenizer)
    first = 0 if n > 1 else len(tokenizer.decode([ids[0]]).encode())  # not a target
    want = sum(len(text.encode()) for text in texts) - first
    assert count_bytes(ids, tokenizer) == target_bytes(ids.tolist(), tokenizer) == want


def test_split_keeps_every_token():
    ids = np.arange(100)
    train, val = split_tokens(ids, 0.2)
    assert (len(train), len(val)) == (80, 20)
    assert np.array_equal(np.concatenate([train, val]), ids)


def test_split_moves_to_the_start_of_a_document():
    ids = np.arange(1, 101)
    ids[[0, 30, 60, 90, 99]] = 0
    train, val = split_tokens(ids, 0.3, eot=0)
    assert (len(train), len(val)) == (90, 10)
    assert val[0] == 0
    train, val = split_tokens(ids, 0.05, eot=0)  # no document begins after the cut, so it stays
    assert (len(train), len(val)) == (95, 5)


def test_split_stays_when_validation_would_be_too_short():
    ids = np.arange(1, 101)
    ids[[0, 50, 95]] = 0
    train, val = split_tokens(ids, 0.3, eot=0)
    assert (len(train), len(val)) == (70, 30), "5 tokens are less than a quarter of 30"


@pytest.mark.parametrize(
    ("n", "fraction", "held_out"),
    [(20, 0.1, [9, 19]), (20, 0.25, [3, 7, 11, 15, 19]), (7, 0.5, [1, 3, 5])],
)
def test_validation_documents_are_spread_over_the_text(n, fraction, held_out):
    texts = [f"text {i}" for i in range(n)]
    train, val = split_documents(texts, fraction)
    assert val == [texts[i] for i in held_out]
    assert sorted(train + val) == sorted(texts)


@pytest.mark.parametrize(("n", "fraction"), [(1, 0.5), (5, 0.1), (1, 0.999)])
def test_too_few_documents_for_validation_are_an_error(n, fraction):
    with pytest.raises(
        UserError,
        match=(
            r"data.split: \d documents are too few .* set --data.split tokens, or another"
            r" --data.val-fraction"
        ),
    ):
        split_documents(["a"] * n, fraction)


def test_validation_documents_are_unseen_by_the_tokenizer(monkeypatch):
    texts = [*STORIES, "QQQQ QQQQ QQQQ QQQQ QQQQ QQQQ QQQQ"]
    monkeypatch.setitem(SOURCES, "mine", lambda argument: texts)
    corpus = prepare(settings("mine", "bpe", 262, split="documents", val_fraction=1 / 7))
    assert (
        corpus.tokenizer.decode([i for i in corpus.val if i != corpus.tokenizer.eot_token])
        == texts[-1]
    )
    assert len(corpus.tokenizer.encode("QQQQ")) == 4
    assert (corpus.val == corpus.tokenizer.eot_token).sum() == 2, (
        "one document has an end of text on each side"
    )


@pytest.mark.parametrize("split", ["tokens", "characters"])
@pytest.mark.parametrize("source", ["one", "many:5"])
def test_prepare_gives_both_parts_and_the_bytes_of_the_second(source, split):
    corpus = prepare(settings(source, split=split, val_fraction=0.25))
    whole = np.concatenate([corpus.train, corpus.val])
    assert len(corpus.val) == pytest.approx(0.25 * len(whole), rel=0.25)
    targets = corpus.val[1:]
    text = corpus.tokenizer.decode([i for i in targets if i != corpus.tokenizer.eot_token])
    assert corpus.val_bytes == len(text.encode())
    assert corpus.bytes_per_token == corpus.val_bytes / len(targets)
    joined = corpus.tokenizer.decode([i for i in whole if i != corpus.tokenizer.eot_token])
    documents = STORIES * 5 if source == "many:5" else [" ".join(STORIES)]
    assert joined == ("\n" if split == "characters" else "").join(documents)


def test_split_by_characters_equals_the_notebooks():
    text = " ".join(STORIES)
    corpus = prepare(settings("one", split="characters", val_fraction=0.2))
    assert corpus.tokenizer.decode(corpus.train.tolist()) == text[: int(0.8 * len(text))]


def test_tokenizer_is_trained_on_training_text_only(monkeypatch):
    seen = []
    train = TOKENIZERS["bpe"]
    monkeypatch.setitem(
        TOKENIZERS, "bpe", lambda texts, vocab_size: seen.extend(texts) or train(texts, vocab_size)
    )
    corpus = prepare(settings(tokenizer="bpe", vocab_size=300, val_fraction=0.5))
    assert sum(map(len, seen)) <= 0.5 * sum(map(len, STORIES * 5))
    assert "".join(STORIES * 5).startswith("".join(seen))
    assert corpus.tokenizer.n_vocab <= 300


@pytest.mark.parametrize("lengths", [[100_000], [1000] * 100, [1, 99_999], [7, 50_000, 3, 49_990]])
def test_tokenizer_sample_is_spread_over_the_text(lengths):
    texts, n = [], 0
    for length in lengths:
        texts.append("".join(chr(0x4E00 + i // 10) for i in range(n, n + length)))
        n += length
    sample = sample_text(texts, 6400)
    assert 0.9 * 6400 <= sum(map(len, sample)) <= 6400
    places = sorted(ord(letter) - 0x4E00 for text in sample for letter in text)
    assert places[0] == 0
    assert places[-1] >= 10_000 * (1 - 2 / N_SPANS)
    assert max(b - a for a, b in zip(places, places[1:])) <= 10_000 / N_SPANS + 1
    assert sample_text(texts, 100_000) is texts


def test_tokenizer_is_trained_on_a_sample_if_requested(monkeypatch):
    seen = []
    train = TOKENIZERS["bpe"]
    monkeypatch.setitem(
        TOKENIZERS, "bpe", lambda texts, vocab_size: seen.extend(texts) or train(texts, vocab_size)
    )
    prepare(settings("many:200", tokenizer="bpe", vocab_size=270, tokenizer_sample=6400))
    assert 0.9 * 6400 <= sum(map(len, seen)) <= 6400


def test_corpus_opens_a_tokenizer_by_path(tmp_path):
    mine = TOKENIZERS["bpe"](STORIES, 262)
    mine.save(tmp_path / "class.json")
    corpus = prepare(settings(tokenizer=str(tmp_path / "class.json"), vocab_size=262))
    assert np.array_equal(
        np.concatenate([corpus.train, corpus.val]), encode_documents(STORIES * 5, mine)
    )


def test_long_text_is_encoded_in_parts_to_the_same_ids():
    tokenizer = TOKENIZERS["bpe"](STORIES, 262)
    text = " ".join(STORIES * 8000)
    assert len(text) > 2 * 2**20
    assert encode_documents([text], tokenizer).tolist() == tokenizer.encode(text)


def test_corpus_uses_a_given_tokenizer():
    mine = TOKENIZERS["chars"](["".join(STORIES) + "!?"])
    assert prepare(settings(), mine).tokenizer is mine


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({"tokenizer": "bpee"}, "unknown tokenizer 'bpee'; did you mean 'bpe'", USAGE),
        ({"source": "nowhere"}, "unknown source 'nowhere'", USAGE),
        (
            {"vocab_size": 12},
            r"'chars' has \d+ tokens, but model.vocab_size=12; set --model.vocab-size \d+",
            USAGE,
        ),
        (
            {"context_length": 5000},
            "the training part of 'many:5' has .* tokens, one window takes 5001",
            DATA,
        ),
        (
            {"val_fraction": 0.001, "source": "one"},
            "the validation part of 'one' has .* one window takes 17",
            DATA,
        ),
    ],
)
def test_corpus_that_does_not_fit_raises_with_setting(changes, message, code):
    with pytest.raises(UserError, match=message) as error:
        prepare(settings(**changes))
    assert error.value.code == code


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """`many:5` as shards of 64 ids."""
    monkeypatch.setattr(os, "fsync", lambda number: None)
    make_shards("many:5", tmp_path / "shards", "chars", shard_tokens=64)
    return f"shards:{tmp_path / 'shards'}"


@pytest.mark.parametrize("val_fraction", [0.1, 0.25, 0.5])
def test_shards_give_the_corpus_of_the_text_they_were_made_of(shards, val_fraction):
    ours, theirs = (
        prepare(settings(source, val_fraction=val_fraction)) for source in (shards, "many:5")
    )
    for part in ("train", "val"):
        assert np.array_equal(np.asarray(getattr(ours, part)), getattr(theirs, part))
    assert ours.val_bytes == theirs.val_bytes
    assert ours.tokenizer.to_json() == theirs.tokenizer.to_json()


@pytest.mark.parametrize("tokenizer", ["bpe", "chars"])
def test_bytes_are_counted_per_token(tokenizer):
    made = TOKENIZERS[tokenizer](STORIES, 262 if tokenizer == "bpe" else None)
    ids = encode_documents(STORIES, made)
    assert count_bytes(ids, made) == sum(len(text.encode()) for text in STORIES)


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        (
            {"vocab_size": 12},
            (
                r"tokenizer '.*shards' has \d+ tokens, but model.vocab_size=12; set"
                r" --model.vocab-size \d+"
            ),
            USAGE,
        ),
        (
            {"context_length": 5000},
            "the training part of 'shards:.*' has .* tokens, one window takes 5001",
            DATA,
        ),
        (
            {"split": "characters"},
            "data.split='characters' does not apply to token shards; set --data.split tokens",
            USAGE,
        ),
    ],
)
def test_shards_that_do_not_fit_raise_with_setting(shards, changes, message, code):
    with pytest.raises(UserError, match=message) as error:
        prepare(settings(shards, **changes))
    assert error.value.code == code


def test_corpus_depends_only_on_settings():
    a, b = (prepare(settings(tokenizer="bpe", vocab_size=300)) for _ in range(2))
    assert np.array_equal(a.train, b.train)
    assert np.array_equal(a.val, b.val)
    assert dataclasses.astuple(settings()) == dataclasses.astuple(settings())


def test_rows_begin_with_a_start_token_only_where_a_row_is_a_document():
    from llm_scratch.config import DataConfig
    from llm_scratch.data.corpus import start_id

    class Tokens:
        eot_token = 7

    assert start_id(DataConfig(order="documents"), Tokens()) == 7
    assert start_id(DataConfig(order="shuffled"), Tokens()) is None
