"""Character tokenizer: one token per character, with a small vocabulary and long sequences.

Each distinct character of the training text gets an id, `<|endoftext|>` the last one. A model of
tiny Shakespeare then has 66 tokens, and must learn to spell.
Tests: tests/tokenizers/test_chars.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.special import END_OF_TEXT, reject_special


class CharTokenizer:
    """Encode characters to ids and decode them.

    Args:
        characters: the characters of the vocabulary, in the order of their ids.
        end_of_text: whether `<|endoftext|>` gets the id after them;
            nanoGPT's character models have none.
    """

    def __init__(self, characters: Iterable[str], end_of_text: bool = True) -> None:
        self.characters = "".join(characters)
        self._id = {character: i for i, character in enumerate(self.characters)}
        if len(self._id) != len(self.characters):
            raise UserError(
                f"{len(self.characters)} characters, only {len(self._id)} of them distinct;"
                " remove the duplicates",
                DATA,
            )
        self.special_tokens = {END_OF_TEXT: len(self.characters)} if end_of_text else {}

    @classmethod
    def train(cls, texts: Iterable[str], end_of_text: bool = True) -> CharTokenizer:
        """Make a tokenizer of the distinct characters of texts, sorted by code point."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls(sorted(characters), end_of_text)

    @property
    def n_vocab(self) -> int:
        """Number of ids: the characters and `<|endoftext|>`."""
        return len(self.characters) + len(self.special_tokens)

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        if not self.special_tokens:
            raise UserError(
                f"this tokenizer of {len(self.characters)} characters has no {END_OF_TEXT};"
                " use one with it",
                DATA,
            )
        return self.special_tokens[END_OF_TEXT]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Encode a text, one id per character.

        Args:
            text: a text of known characters.
            allowed_special: "all" or a set with `<|endoftext|>`, to encode it as `eot_token`;
                else its letters are encoded as characters.
            disallowed_special: special tokens that raise a ValueError if the text has them.
        Raises:
            UserError: a character that was not in the training text.
        """
        allowed = bool(self.special_tokens) and (
            allowed_special == "all" or END_OF_TEXT in allowed_special
        )
        if disallowed_special == "all":
            disallowed_special = () if allowed else self.special_tokens
        reject_special(text, disallowed_special)
        ids: list[int] = []
        for i, part in enumerate(text.split(END_OF_TEXT) if allowed else [text]):
            if i:
                ids.append(self.eot_token)
            try:
                ids += map(self._id.__getitem__, part)
            except KeyError:
                unknown = next(character for character in part if character not in self._id)
                raise UserError(
                    f"the character {unknown!r} (U+{ord(unknown):04X}) was not in the training"
                    f" text, so this tokenizer has no id for it (it knows {len(self._id)}"
                    " characters); remove it, or train a new model with --data.tokenizer bpe,"
                    " which encodes every character",
                    DATA,
                ) from None
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to text; an id outside the vocabulary raises a ValueError."""
        known = [*self.characters, *self.special_tokens]
        text = []
        for i in ids:
            if not 0 <= i < len(known):
                raise ValueError(f"id {i} is not in this vocabulary of {len(known)} characters")
            text.append(known[i])
        return "".join(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to UTF-8 bytes."""
        return self.decode(ids).encode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """The "model" for `tokenizer.json`."""
        return {
            "type": "chars",
            "characters": self.characters,
            **({} if self.special_tokens else {"end_of_text": False}),
        }

    @classmethod
    def from_json(cls, model: dict[str, Any]) -> CharTokenizer:
        """Make the tokenizer from the result of `to_json`."""
        return cls(model["characters"], model.get("end_of_text", True) is True)
