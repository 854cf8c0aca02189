"""A token alone as text."""

import pytest

from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.token_text import token_text


@pytest.mark.parametrize(("name", "size"), [("bpe", 262), ("chars", None)])
def test_text_of_tokens_joins_to_the_text(name, size):
    text = "the hen sat on the mat"
    tokenizer = TOKENIZERS[name]([text], size)
    assert "".join(token_text(tokenizer, token) for token in tokenizer.encode(text)) == text


def test_part_of_a_character_and_an_unused_id_have_a_text():
    tokenizer = TOKENIZERS["bpe"](["é" * 9], 257)
    tokens = {tokenizer.decode_bytes([token]): token for token in range(256)}
    assert token_text(tokenizer, tokens["é".encode()[:1]]) == "\N{REPLACEMENT CHARACTER}"
    assert token_text(tokenizer, 10_000) == "<10000>"
