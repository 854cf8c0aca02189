"""Characters are stored as a WordLevel tokenizer.json.

The file is also read after transformers saved it again.
"""

import json

import pytest

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers import CharTokenizer, load_tokenizer
from llm_scratch.tokenizers.char_files import word_level_json
from llm_scratch.tokenizers.tokenizer_json import write_tokenizer_json

TEXT = "the cat — naïve 😀\n\t"


@pytest.mark.parametrize("end_of_text", [True, False])
def test_characters_are_read_back(tmp_path, end_of_text):
    tokenizer = CharTokenizer.train([TEXT], end_of_text)
    write_tokenizer_json(tmp_path, word_level_json(tokenizer))
    again = load_tokenizer(tmp_path)
    assert (again.characters, again.special_tokens) == (
        tokenizer.characters,
        tokenizer.special_tokens,
    )


@pytest.mark.parametrize("end_of_text", [True, False])
def test_characters_are_read_after_transformers_saved_them_again(tmp_path, end_of_text):
    """transformers adds its own post_processor, and the padding and truncation of its last call."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
    tokenizer = CharTokenizer.train([TEXT], end_of_text)
    write_tokenizer_json(tmp_path, word_level_json(tokenizer))
    pad = {"pad_token": "<|endoftext|>"} if end_of_text else {}
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), **pad
    )
    theirs([TEXT, "the"], padding=end_of_text, truncation=True, max_length=4)
    theirs.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer.json").read_text())["truncation"]
    assert load_tokenizer(tmp_path / "again").encode(TEXT) == tokenizer.encode(TEXT)


def test_words_of_several_letters_are_refused(tmp_path):
    good = word_level_json(CharTokenizer.train([TEXT]))
    for change in (
        {"model": good["model"] | {"vocab": {"the": 0}}},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
    ):
        write_tokenizer_json(tmp_path, good | change)
        with pytest.raises(
            UserError, match="is a WordLevel tokenizer, but not of single characters"
        ) as error:
            load_tokenizer(tmp_path)
        assert error.value.code == DATA
