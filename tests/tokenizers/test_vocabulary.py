"""Vocabularies are accepted exactly if every token can be produced from its own bytes."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from llm_scratch.errors import UserError
from llm_scratch.tokenizers.bpe_train import learn_merges
from llm_scratch.tokenizers.merging import BYTES, merge_piece, symbols
from llm_scratch.tokenizers.vocabulary import Vocabulary, printable, unprintable


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=14))
def test_vocabulary_rejects_exactly_the_unreachable_merges(choices):
    vocabulary, tokens = Vocabulary(()), [b"a", b"b"]
    for left, right in choices:
        halves = tokens[left % len(tokens)], tokens[right % len(tokens)]
        token = b"".join(halves)
        if token in tokens:
            continue
        pair = "".join(vocabulary.symbol[half] for half in halves)
        met = merge_piece(symbols(token), vocabulary.joined, vocabulary.pair_of) == pair
        if met:
            vocabulary.add(*halves)
            tokens.append(token)
        else:
            with pytest.raises(UserError, match="can never occur"):
                vocabulary.add(*halves)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=15), st.integers(1, 9), max_size=8),
    st.text("abc", max_size=30),
)
def test_longest_first_equals_merging(texts, piece):
    tokens = [bytes([byte]) for byte in BYTES]
    vocabulary = Vocabulary(())
    for pair in learn_merges(texts, 30):
        vocabulary.add(tokens[ord(pair[0])], tokens[ord(pair[1])])
        tokens.append(b"".join(vocabulary.merges[-1]))
    merged = merge_piece(symbols(piece.encode()), vocabulary.joined, vocabulary.pair_of)
    assert vocabulary.longest_first(piece.encode()) == merged


def test_vocabulary_error_names_the_violated_condition():
    with pytest.raises(
        UserError,
        match="merge 2 uses 'xy', which is neither a byte nor the result of an earlier merge",
    ) as caught:
        Vocabulary([(b"a", b"b"), (b"xy", b"z"), (b"x", b"y")])
    assert caught.value.code == 3
    with pytest.raises(UserError, match="merge 3 makes 'abc', which already exists"):
        Vocabulary([(b"a", b"b"), (b"ab", b"c"), (b"a", b"bc")][:2] + [(b"ab", b"c")])
    with pytest.raises(UserError, match="merge 3, 'ab' and 'c', can never occur"):
        Vocabulary([(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")])


def test_gpt2_spelling_of_bytes():
    assert printable(b" the\n") == "ĠtheĊ"
    for byte in range(256):
        assert unprintable(printable(bytes([byte]))) == bytes([byte])
        assert printable(bytes([byte])).isprintable()
    with pytest.raises(UserError, match="not a token in GPT-2's spelling"):
        unprintable("a b")
