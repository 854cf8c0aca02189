"""Characters: ids in code point order and an exact round trip.

An unknown character is a clear error.
"""

from __future__ import annotations

import pytest

from llm_scratch.errors import UserError
from llm_scratch.tokenizers import CharTokenizer


def test_shakespeare_has_the_65_characters_known_from_nanogpt(data_dir):
    text = (data_dir / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.train([text])
    assert (tokenizer.n_vocab, tokenizer.eot_token) == (66, 65)
    assert tokenizer.encode("hii there") == [
        46,
        47,
        47,
        1,
        58,
        46,
        43,
        56,
        43,
    ]  # printed in nanoGPT's lecture notebook
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_training_does_not_depend_on_the_order_of_texts():
    assert (
        CharTokenizer.train(["ba", "é"]).characters
        == CharTokenizer.train(["é", "ab"]).characters
        == "abé"
    )


def test_chars_encode_end_of_text_only_if_allowed():
    tokenizer = CharTokenizer.train(["<|endoftext|> ab"])
    text = "a<|endoftext|>b"
    assert len(tokenizer.encode(text)) == len(text)
    assert tokenizer.eot_token not in tokenizer.encode(text)
    a, end, b = tokenizer.encode(text, allowed_special={"<|endoftext|>"})
    assert (tokenizer.decode([a]), end, tokenizer.decode([b])) == ("a", tokenizer.eot_token, "b")
    assert tokenizer.decode([a, end, b]) == text
    assert tokenizer.decode_bytes([a, end]) == b"a<|endoftext|>"
    with pytest.raises(ValueError, match="special token"):
        tokenizer.encode(text, disallowed_special="all")
    assert tokenizer.encode(text, allowed_special="all", disallowed_special="all") == [a, end, b]


def test_char_tokenizer_names_unknown_character():
    tokenizer = CharTokenizer.train(["ab"])
    with pytest.raises(
        UserError,
        match=r"'é' \(U\+00E9\) was not in the training text.*new model with --data\.tokenizer bpe",
    ) as caught:
        tokenizer.encode("abé")
    assert caught.value.code == 3
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match="is not in this vocabulary of 3"):
            tokenizer.decode(wrong)
    with pytest.raises(UserError, match="remove the duplicates"):
        CharTokenizer("aa")


def test_chars_without_end_of_text_encode_its_spelling(tmp_path):
    plain = CharTokenizer.train(["a<|endoftext|>"], end_of_text=False)
    assert plain.n_vocab == len(set("a<|endoftext|>"))
    for tokenizer in (plain, CharTokenizer.from_json(plain.to_json())):
        ids = tokenizer.encode("a<|endoftext|>", allowed_special="all", disallowed_special="all")
        assert tokenizer.decode(ids) == "a<|endoftext|>"
        assert len(ids) == 14
        with pytest.raises(UserError, match="has no <.endoftext.>"):
            _ = tokenizer.eot_token
