"""Character tokenizers in the `tokenizer.json` format: a WordLevel model of one-letter words.

Tests: tests/tokenizers/test_char_files.py,
tests/interop/test_hf_export.py (equal ids and texts in transformers).
Source: https://huggingface.co/docs/tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.chars import CharTokenizer
from llm_scratch.tokenizers.special import END_OF_TEXT
from llm_scratch.tokenizers.tokenizer_json import added_token_rows, prefix_id

IGNORED_FIELDS = ("version", "truncation", "padding", "post_processor")
"""Fields that do not change the ids: transformers saves its last truncation and padding."""


def word_level_json(tokenizer: CharTokenizer) -> dict[str, Any]:
    """Make the content of a `tokenizer.json` that splits a text into characters, each a word."""
    letters = {letter: i for i, letter in enumerate(tokenizer.characters)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_token_rows(tokenizer.special_tokens),
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"[\s\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": letters | tokenizer.special_tokens,
            "unk_token": "<|unk|>",
        },
    }


def from_word_level(data: Mapping[str, Any], path: Path) -> CharTokenizer:
    """Read a CharTokenizer from a `tokenizer.json`, also one that transformers saved.

    Raises:
        UserError: words longer than a character,
            or other rules of splitting or normalizing (code 3).
    """
    vocab = data["model"].get("vocab")
    if isinstance(vocab, dict) and all(type(i) is int for i in vocab.values()):
        letters = [
            name
            for name, _ in sorted(vocab.items(), key=lambda item: item[1])
            if name != END_OF_TEXT
        ]
        if all(len(letter) == 1 for letter in letters):
            tokenizer = CharTokenizer(letters, END_OF_TEXT in vocab)
            expected = {
                key: value
                for key, value in word_level_json(tokenizer).items()
                if key not in IGNORED_FIELDS
            }
            prefix_id(data, path)
            if expected.items() <= data.items():
                return tokenizer
    raise UserError(
        f"{path} is a WordLevel tokenizer, but not of single characters;"
        " use byte-level BPE or characters",
        DATA,
    )
