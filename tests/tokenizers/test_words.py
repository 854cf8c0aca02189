"""Words: the values that the notebooks print, the corrected bugs, and no silent loss."""

from __future__ import annotations

import pytest

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import SimpleTokenizerV1, SimpleTokenizerV2, build_vocab, split_words

SPECIALS = ("<|endoftext|>", "<|unk|>")
PAINTED = '"It\'s the last he painted,you know," Mrs.Gisburn said with pardonable pribe.'
TEA = "Hello, do like tea, is this a test?"


def test_verdict_has_the_printed_sizes(verdict):
    assert len(verdict) == 20479
    assert len(split_words(verdict)) == 4690
    vocab = build_vocab(verdict)
    assert len(vocab) == 1130
    assert list(vocab.items())[:3] == [("!", 0), ('"', 1), ("'", 2)]
    assert list(vocab.items())[-1] == ("yourself", 1129)
    assert len(build_vocab(verdict, SPECIALS)) == 1132
    assert list(build_vocab(verdict, SPECIALS).items())[-2:] == [
        ("<|endoftext|>", 1130),
        ("<|unk|>", 1131),
    ]


def test_words_drop_unknown_words_as_printed_in_the_notebook(verdict):
    vocab = build_vocab(verdict)
    first = SimpleTokenizerV1(vocab, unknown="drop")
    ids = first.encode(PAINTED)
    assert ids == [
        1,
        56,
        2,
        850,
        988,
        602,
        533,
        746,
        5,
        1126,
        596,
        5,
        1,
        67,
        7,
        38,
        851,
        1108,
        754,
        7,
    ]
    assert (
        first.decode(ids)
        == '" It\' s the last he painted, you know," Mrs. Gisburn said with pardonable.'
    )
    tea = [5, 355, 628, 975, 5, 584, 999, 115, 10]
    second = SimpleTokenizerV2(build_vocab(verdict, ("<endoftext|>", "|unk|")), unknown="drop")
    assert first.encode(TEA) == second.encode(TEA) == tea
    assert first.decode(tea) == ", do like tea, is this a?"
    assert first.str_to_int["tea"] == 975
    assert first.int_to_str[975] == "tea"


def test_words_raise_on_an_unknown_word_by_default(verdict):
    with pytest.raises(UserError, match="'pribe' is not among the 1130 words") as caught:
        SimpleTokenizerV1(build_vocab(verdict)).encode(PAINTED)
    assert caught.value.code == 3
    second = SimpleTokenizerV2(build_vocab(verdict, SPECIALS))
    assert second.encode(TEA) == [1131, 5, 355, 628, 975, 5, 584, 999, 115, 1131, 10]
    assert second.decode(second.encode(TEA)) == "<|unk|>, do like tea, is this a <|unk|>?"
    with pytest.raises(UserError, match="'Hello'"):
        SimpleTokenizerV2(build_vocab(verdict, SPECIALS), unknown="raise").encode(TEA)


def test_words_of_the_training_text_with_underscores_are_encoded(verdict):
    tokenizer = SimpleTokenizerV1(build_vocab(verdict))
    assert split_words("an _rs_, --so") == ["an", "_", "rs", "_", ",", "--", "so"]
    words = split_words(verdict)
    assert [tokenizer.int_to_str[i] for i in tokenizer.encode(verdict)] == words
    assert "_" in words


def test_words_reject_a_vocabulary_without_unk_or_with_a_shared_id():
    with pytest.raises(UserError, match=r"no <\|unk\|>; build it with specials"):
        SimpleTokenizerV2({"a": 0})
    with pytest.raises(UserError, match="2 words have only 1 distinct ids"):
        SimpleTokenizerV1({"a": 0, "b": 0})
    with pytest.raises(UserError, match="use one of raise, drop"):
        SimpleTokenizerV1({"a": 0}, unknown="unk")
    with pytest.raises(UserError, match=r"has no <\|endoftext\|>"):
        _ = SimpleTokenizerV1({"a": 0}).eot_token
    with pytest.raises(ValueError, match="id 7 is not in this vocabulary of 1 words"):
        SimpleTokenizerV1({"a": 0}).decode([7])


def test_training_keeps_the_most_frequent_words_and_ties_go_by_the_alphabet():
    tokenizer = SimpleTokenizerV2.train(["b b b c a", "c <|unk|>"], vocab_size=5)
    assert tokenizer.str_to_int == {"a": 0, "b": 1, "c": 2, "<|endoftext|>": 3, "<|unk|>": 4}
    assert SimpleTokenizerV2.train(["b b a c"], vocab_size=4).str_to_int == {
        "a": 0,
        "b": 1,
        "<|endoftext|>": 2,
        "<|unk|>": 3,
    }
    assert (tokenizer.n_vocab, tokenizer.eot_token) == (5, 3)
    with pytest.raises(UserError, match="vocab_size=2: too small"):
        SimpleTokenizerV2.train(["a"], vocab_size=2)


def test_special_words_in_the_text_are_encoded_only_if_allowed():
    tokenizer = SimpleTokenizerV2.train(["a b"])
    text = "a <|endoftext|> b"
    assert tokenizer.encode(text) == [0, tokenizer.str_to_int["<|unk|>"], 1]
    assert tokenizer.encode(text, allowed_special={"<|endoftext|>"}) == [0, tokenizer.eot_token, 1]
    assert tokenizer.encode("a<|endoftext|>b", allowed_special="all") == [0, tokenizer.eot_token, 1]
    with pytest.raises(ValueError, match="at character 2"):
        tokenizer.encode(text, disallowed_special="all")
    assert tokenizer.decode_bytes([0, 1]) == b"a b"
