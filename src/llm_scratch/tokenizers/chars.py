"""Characters as tokens: the smallest vocabulary, the longest sequences.

Every different character of the training text gets a number, `<|endoftext|>` the last one. A model of tiny Shakespeare
then has 66 tokens to choose from, and must learn to spell.
Tests: tests/tokenizers/test_chars.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.special import END_OF_TEXT, reject_special


class CharTokenizer:
    """Characters to ids and back.

    Args:
        characters: the characters it knows, in the order of their ids.
        end_of_text: whether `<|endoftext|>` gets the id after them; nanoGPT's models of characters do not know it.
    """

    def __init__(self, characters: Iterable[str], end_of_text: bool = True) -> None:
        self.characters = "".join(characters)
        self._id = {character: i for i, character in enumerate(self.characters)}
        if len(self._id) != len(self.characters):
            raise UserError(f"{len(self.characters)} characters were given but only {len(self._id)} differ; give each once", DATA)
        self.special_tokens = {END_OF_TEXT: len(self.characters)} if end_of_text else {}

    @classmethod
    def train(cls, texts: Iterable[str], end_of_text: bool = True) -> CharTokenizer:
        """The different characters of some texts, sorted by code point."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls(sorted(characters), end_of_text)

    @property
    def n_vocab(self) -> int:
        """How many ids there are: the characters and `<|endoftext|>`."""
        return len(self.characters) + len(self.special_tokens)

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        if not self.special_tokens:
            raise UserError(f"this tokenizer of {len(self.characters)} characters has no {END_OF_TEXT}", DATA)
        return self.special_tokens[END_OF_TEXT]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Turn a text into one id a character.

        Args:
            text: characters that the training text had.
            allowed_special: "all" or a set with `<|endoftext|>`: where the text spells it, it becomes `eot_token`.
                Else its letters are letters.
            disallowed_special: special tokens whose spelling in the text is an error (ValueError).
        Raises:
            UserError: a character that the training text did not have.
        """
        allowed = bool(self.special_tokens) and (allowed_special == "all" or END_OF_TEXT in allowed_special)
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
                odd = next(character for character in part if character not in self._id)
                raise UserError(
                    f"the character {odd!r} (U+{ord(odd):04X}) was not in the training text, so this tokenizer has no id for it; "
                    f"leave it out, or train with --tokenizer bpe, which knows every character (known here: {len(self._id)} characters)",
                    DATA,
                ) from None
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into the text; an id outside the vocabulary is a ValueError."""
        known = [*self.characters, *self.special_tokens]
        text = []
        for i in ids:
            if not 0 <= i < len(known):
                raise ValueError(f"id {i} is not in this vocabulary of {len(known)} characters")
            text.append(known[i])
        return "".join(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `decode(ids)` in UTF-8."""
        return self.decode(ids).encode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """What `tokenizer.json` holds as its model."""
        return {"type": "chars", "characters": self.characters, **({} if self.special_tokens else {"end_of_text": False})}

    @classmethod
    def from_json(cls, model: dict[str, Any]) -> CharTokenizer:
        """The tokenizer that `to_json` described."""
        return cls(model["characters"], model.get("end_of_text", True) is True)
