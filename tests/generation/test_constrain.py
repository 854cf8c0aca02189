"""Constrained decoding: a random model generates matching text, alone and in a batch.

Invalid patterns are errors.
"""

from __future__ import annotations

import json
import re

import pytest
import torch

from llm_scratch.errors import GenerationWarning, UserError
from llm_scratch.generation.constrain import Constraint
from llm_scratch.generation.decode import stream, stream_batch
from llm_scratch.model.gpt import GPTModel

pytest.importorskip("llguidance", reason="needs the extra `constrain`")

CFG = {
    "vocab_size": 260,
    "context_length": 64,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 1,
    "drop_rate": 0.0,
    "qkv_bias": True,
}


class Bytes:
    """A tokenizer whose tokens are the bytes, and 256 the end of text."""

    n_vocab, eot_token = 257, 256

    def encode(self, text, *, allowed_special=frozenset(), disallowed_special=()):
        return list(text.encode())

    def decode_bytes(self, ids):
        return bytes(i for i in ids if i != 256)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(123)
    return GPTModel(CFG)


@pytest.mark.parametrize(
    "regex", [r"[a-c]{3,7}\.", r"(yes|no|maybe)", r"[0-9]{4}-[0-9]{2}", r"(🦊|狐){2}"]
)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_constrained_text_matches_the_expression(model, regex, temperature):
    for seed in range(3):
        text = "".join(stream(model, Bytes(), "x", seed=seed, temperature=temperature, regex=regex))
        assert re.fullmatch(regex, text), text


def test_constraint_applies_to_each_row_of_a_batch(model):
    texts = [""] * 12
    for row, piece in stream_batch(
        model, Bytes(), ["x", "longer"], samples=6, seed=0, temperature=2.0, regex=r"[ab]{1,9}!"
    ):
        texts[row] += piece.text
    assert all(re.fullmatch(r"[ab]{1,9}!", text) for text in texts), texts
    assert len(set(map(len, texts))) > 2


def test_constrained_json_matches_its_schema(model):
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8, "pattern": "^[a-z]+$"},
            "age": {"type": "integer", "maximum": 99},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for seed in range(3):
        text = "".join(
            stream(
                model,
                Bytes(),
                "x",
                seed=seed,
                max_new_tokens=200,
                temperature=1.0,
                json_schema=json.dumps(schema),
            )
        )
        value = json.loads(text)
        assert set(value) == {"name", "age"}
        assert isinstance(value["age"], int)
        assert re.fullmatch("[a-z]{1,8}", value["name"])


def test_constrained_tokens_follow_the_model_among_the_allowed_ones(model):
    with torch.no_grad():
        wish = model.eval()(torch.tensor([[120]]))[0, -1]
    best = max("abcdef", key=lambda letter: wish[ord(letter)].item())
    assert "".join(stream(model, Bytes(), "x", temperature=0, regex="[a-f]")) == best


def test_constrained_text_ends_with_a_warning_when_the_vocabulary_cannot_continue_it(model):
    class Few(Bytes):
        n_vocab, eot_token = 4, 3

        def encode(self, text, **_):
            return [ord(letter) % 3 for letter in text]

        def decode_bytes(self, ids):
            return bytes(97 + i for i in ids if i != 3)

    with pytest.warns(GenerationWarning, match="the text ends early: every token is excluded"):
        assert len("".join(stream(model, Few(), "x", regex="[a-z]x"))) <= 2


class Endless(Bytes):
    @property
    def eot_token(self):
        raise KeyError("none")


class Words(Bytes):
    def decode_bytes(self, ids):
        return b" ".join(bytes([i]) for i in ids if i != 256)


@pytest.mark.parametrize(
    ("tokenizer", "form", "word"),
    [
        (Bytes(), {}, "one of the two"),
        (Bytes(), {"regex": "a", "json_schema": "{}"}, "one of the two"),
        (Bytes(), {"regex": "(a"}, "regular expression cannot be used"),
        (Bytes(), {"json_schema": "{"}, "JSON schema"),
        (Bytes(), {"json_schema": '{"type": "strin"}'}, "JSON schema"),
        (Endless(), {"regex": "a"}, "no end-of-text"),
        (Words(), {"regex": "a"}, "joins words"),
    ],
)
def test_constraint_rejects_invalid_patterns_and_tokenizers(tokenizer, form, word):
    with pytest.raises(UserError, match=word):
        Constraint(tokenizer, **form)
