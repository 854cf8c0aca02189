"""Word tokenizers: the simplest tokenizers, for teaching, and their limits.

A text is split at spaces and punctuation, and each distinct word gets an id. `SimpleTokenizerV1`
raises an error for an unknown word; `SimpleTokenizerV2` encodes it as `<|unk|>`. Both lose the
spaces, which is why `bpe.py` exists.
Tests: tests/tokenizers/test_words.py. Lesson: lessons/step1_text.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal, Self

from llm_scratch.errors import DATA, UserError
from llm_scratch.tokenizers.special import END_OF_TEXT, UNKNOWN, reject_special, special_pattern

_CUT = re.compile(r'([,.:;?_!"()\']|--|\s)')
_SPACE_BEFORE_MARK = re.compile(r'\s+([,.:;?!"()\'])')


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation marks; spaces are dropped.

    The vocabulary and both tokenizers share this rule, so that the text of the vocabulary can be
    encoded: `split_words("_rs_, --so")` is `["_", "rs", "_", ",", "--", "so"]`.
    """
    return [word for word in _CUT.split(text) if word and not word.isspace()]


def build_vocab(text: str, specials: Sequence[str] = ()) -> dict[str, int]:
    """Number the distinct words of a text in sorted order, then the special tokens.

    Returns:
        word -> id, ids 0 to n - 1 without gaps.
    """
    words = sorted(set(split_words(text)) - set(specials))
    return {word: i for i, word in enumerate([*words, *specials])}


class SimpleTokenizerV1:
    """Encode words to ids and decode them, for a fixed vocabulary.

    Args:
        vocab: word -> id, each id once (`build_vocab` makes one).
        unknown: how to encode a word outside `vocab`: "raise" raises an error with the word; "drop"
            skips it silently, as the notebooks' first version did (to reproduce their printed ids).
    """

    model_type = "words-v1"  # the "type" in tokenizer.json
    kinds: tuple[str, ...] = ("raise", "drop")

    def __init__(
        self, vocab: dict[str, int], unknown: Literal["raise", "drop", "unk"] = "raise"
    ) -> None:
        if unknown not in self.kinds:
            raise UserError(
                f"unknown={unknown!r}: not supported by {type(self).__name__};"
                f" use one of {', '.join(self.kinds)}"
            )
        self.str_to_int = dict(vocab)
        self.int_to_str = {i: word for word, i in vocab.items()}
        if len(self.int_to_str) != len(vocab):
            raise UserError(
                f"vocabulary: {len(vocab)} words have only {len(self.int_to_str)} distinct ids;"
                " give each word its own",
                DATA,
            )
        self.unknown = unknown
        self.special_tokens = {
            name: vocab[name] for name in (END_OF_TEXT, UNKNOWN) if name in vocab
        }

    @property
    def n_vocab(self) -> int:
        """Number of ids: the largest id plus one."""
        return max(self.int_to_str, default=-1) + 1

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        if END_OF_TEXT not in self.str_to_int:
            raise UserError(
                f"this vocabulary has no {END_OF_TEXT};"
                f" build it with specials=({END_OF_TEXT!r}, {UNKNOWN!r})",
                DATA,
            )
        return self.str_to_int[END_OF_TEXT]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Encode a text to ids.

        Args:
            text: any text; its spaces are lost.
            allowed_special: special tokens to recognize in the text; others are encoded as words.
            disallowed_special: special tokens that raise a ValueError if the text has them.
        Raises:
            UserError: a word is not in the vocabulary and `unknown` is "raise".
        """
        specials = self.special_tokens.keys()
        allowed = specials if allowed_special == "all" else specials & allowed_special
        if disallowed_special == "all":
            disallowed_special = specials - allowed
        reject_special(text, disallowed_special)
        if not allowed:
            return self._encode_words(split_words(text))
        ids: list[int] = []
        for i, part in enumerate(special_pattern(allowed).split(text)):
            ids += [self.str_to_int[part]] if i % 2 else self._encode_words(split_words(part))
        return ids

    def _encode_words(self, words: list[str]) -> list[int]:
        """Encode words; a word spelled like a special token is unknown."""
        ids: list[int] = []
        for word in words:
            i = None if word in self.special_tokens else self.str_to_int.get(word)
            if i is not None:
                ids.append(i)
            elif self.unknown != "drop":
                ids.append(self._missing(word))
        return ids

    def _missing(self, word: str) -> int:
        raise UserError(
            f"the word {word!r} is not among the {len(self.str_to_int)} words of this vocabulary;"
            " use SimpleTokenizerV2 (it encodes <|unk|>), or the bpe tokenizer, which encodes any"
            " text",
            DATA,
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids to words separated by one space, with none before a punctuation mark."""
        try:
            text = " ".join([self.int_to_str[i] for i in ids])
        except KeyError as missing:
            raise ValueError(
                f"id {missing.args[0]} is not in this vocabulary of {len(self.int_to_str)} words"
            ) from None
        return _SPACE_BEFORE_MARK.sub(r"\1", text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to UTF-8 bytes."""
        return self.decode(ids).encode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """The "model" for `tokenizer.json`."""
        return {"type": self.model_type, "unknown": self.unknown, "vocab": self.str_to_int}

    @classmethod
    def from_json(cls, model: dict[str, Any]) -> Self:
        """Make the tokenizer from the result of `to_json`."""
        vocab = model["vocab"]
        if any(type(i) is not int for i in vocab.values()):
            raise ValueError("an id is not an integer")
        return cls(vocab, model["unknown"])


class SimpleTokenizerV2(SimpleTokenizerV1):
    """Word tokenizer that encodes unknown words as `<|unk|>`.

    Args:
        vocab: word -> id, including `<|unk|>`.
        unknown: "unk"; or "drop",
            which skips unknown words as the notebooks' version did; or "raise".
    """

    model_type = "words"
    kinds = ("unk", "drop", "raise")

    def __init__(
        self, vocab: dict[str, int], unknown: Literal["raise", "drop", "unk"] = "unk"
    ) -> None:
        super().__init__(vocab, unknown)
        if unknown == "unk" and UNKNOWN not in vocab:
            raise UserError(
                f"this vocabulary has no {UNKNOWN};"
                f" build it with specials=({END_OF_TEXT!r}, {UNKNOWN!r})",
                DATA,
            )

    def _missing(self, word: str) -> int:
        return self.str_to_int[UNKNOWN] if self.unknown == "unk" else super()._missing(word)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int | None = None) -> SimpleTokenizerV2:
        """Make a tokenizer of the words of texts, or of the most frequent ones up to `vocab_size`.

        `vocab_size` includes the two special tokens. Ties are broken alphabetically.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(split_words(text))
        specials = (END_OF_TEXT, UNKNOWN)
        for name in specials:
            counts.pop(name, None)
        words = sorted(counts, key=lambda word: (-counts[word], word))
        if vocab_size is not None:
            if vocab_size <= len(specials):
                raise UserError(
                    f"vocab_size={vocab_size}:"
                    f" too small for words and the {len(specials)} special tokens; use a larger one"
                )
            words = words[: vocab_size - len(specials)]
        return cls({word: i for i, word in enumerate([*sorted(words), *specials])})
