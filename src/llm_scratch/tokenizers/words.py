"""Words as tokens: the first tokenizer, simple enough to hold in the head, and what it cannot do.

A text is cut at spaces and punctuation, every different word gets a number. `SimpleTokenizerV1` stops at a word it has
never met; `SimpleTokenizerV2` writes `<|unk|>` there. Either way spaces are lost, which is why `bpe.py` exists.
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
    """Cut a text into words and punctuation marks; spaces are thrown away.

    One rule for the vocabulary and for both tokenizers, so that whatever was counted can be encoded:
    `split_words("_rs_, --so")` is `["_", "rs", "_", ",", "--", "so"]`.
    """
    return [word for word in _CUT.split(text) if word and not word.isspace()]


def build_vocab(text: str, specials: Sequence[str] = ()) -> dict[str, int]:
    """Number the different words of a text in sorted order, then the special tokens.

    Returns:
        word -> id, ids 0 ... n-1 without a gap.
    """
    words = sorted(set(split_words(text)) - set(specials))
    return {word: i for i, word in enumerate([*words, *specials])}


class SimpleTokenizerV1:
    """Words to ids and back, for a fixed list of words.

    Args:
        vocab: word -> id, each id once (`build_vocab` makes one).
        unknown: what a word outside `vocab` does: "raise" stops with an error that names it; "drop" leaves it out of
            the ids, as the notebooks' first version did without a word (kept so that its printed ids can be reached).
    """

    model_type = "words-v1"  # what it is called in tokenizer.json
    kinds: tuple[str, ...] = ("raise", "drop")

    def __init__(self, vocab: dict[str, int], unknown: Literal["raise", "drop", "unk"] = "raise") -> None:
        if unknown not in self.kinds:
            raise UserError(f"unknown={unknown!r} is not a choice of {type(self).__name__}; use one of {', '.join(self.kinds)}")
        self.str_to_int = dict(vocab)
        self.int_to_str = {i: word for word, i in vocab.items()}
        if len(self.int_to_str) != len(vocab):
            raise UserError(
                f"the vocabulary gives {len(vocab)} words only {len(self.int_to_str)} different ids; give each word its own", DATA
            )
        self.unknown = unknown
        self.special_tokens = {name: vocab[name] for name in (END_OF_TEXT, UNKNOWN) if name in vocab}

    @property
    def n_vocab(self) -> int:
        """How many ids a model needs: the largest id plus one."""
        return max(self.int_to_str, default=-1) + 1

    @property
    def eot_token(self) -> int:
        """The id of `<|endoftext|>`."""
        if END_OF_TEXT not in self.str_to_int:
            raise UserError(f"this vocabulary has no {END_OF_TEXT}; build it with specials=({END_OF_TEXT!r}, {UNKNOWN!r})", DATA)
        return self.str_to_int[END_OF_TEXT]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any text; its spaces are not kept.
            allowed_special: special tokens that become their own id where the text spells them; else they are words like any other.
            disallowed_special: special tokens whose spelling in the text is an error (ValueError).
        Raises:
            UserError: a word is not in the vocabulary and `unknown` is "raise".
        """
        allowed = self.special_tokens.keys() if allowed_special == "all" else self.special_tokens.keys() & allowed_special
        reject_special(text, self.special_tokens.keys() - allowed if disallowed_special == "all" else disallowed_special)
        if not allowed:
            return self._encode_words(split_words(text))
        ids: list[int] = []
        for i, part in enumerate(special_pattern(allowed).split(text)):
            ids += [self.str_to_int[part]] if i % 2 else self._encode_words(split_words(part))
        return ids

    def _encode_words(self, words: list[str]) -> list[int]:
        """The ids of words; the spelling of a special token is no word."""
        found = (None if word in self.special_tokens else self.str_to_int.get(word) for word in words)
        return [self._missing(word) if i is None else i for word, i in zip(words, found) if i is not None or self.unknown != "drop"]

    def _missing(self, word: str) -> int:
        raise UserError(
            f"the word {word!r} is not among the {len(self.str_to_int)} words of this vocabulary; "
            "use SimpleTokenizerV2 (it writes <|unk|>), or the bpe tokenizer, which knows every text",
            DATA,
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into words with one space between, none before a punctuation mark."""
        try:
            text = " ".join([self.int_to_str[i] for i in ids])
        except KeyError as missing:
            raise ValueError(f"id {missing.args[0]} is not in this vocabulary of {len(self.int_to_str)} words") from None
        return _SPACE_BEFORE_MARK.sub(r"\1", text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `decode(ids)` in UTF-8."""
        return self.decode(ids).encode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        """What `tokenizer.json` holds as its model."""
        return {"type": self.model_type, "unknown": self.unknown, "vocab": self.str_to_int}

    @classmethod
    def from_json(cls, model: dict[str, Any]) -> Self:
        """The tokenizer that `to_json` described."""
        vocab = model["vocab"]
        if any(type(i) is not int for i in vocab.values()):
            raise ValueError("an id is not an integer")
        return cls(vocab, model["unknown"])


class SimpleTokenizerV2(SimpleTokenizerV1):
    """Words to ids and back; a word that is not in the vocabulary becomes `<|unk|>`, so nothing vanishes without a trace.

    Args:
        vocab: word -> id, with `<|unk|>` among them.
        unknown: "unk"; or "drop", which loses unknown words as the notebooks' version did; or "raise".
    """

    model_type = "words"
    kinds = ("unk", "drop", "raise")

    def __init__(self, vocab: dict[str, int], unknown: Literal["raise", "drop", "unk"] = "unk") -> None:
        super().__init__(vocab, unknown)
        if unknown == "unk" and UNKNOWN not in vocab:
            raise UserError(f"this vocabulary has no {UNKNOWN}; build it with specials=({END_OF_TEXT!r}, {UNKNOWN!r})", DATA)

    def _missing(self, word: str) -> int:
        return self.str_to_int[UNKNOWN] if self.unknown == "unk" else super()._missing(word)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int | None = None) -> SimpleTokenizerV2:
        """The words of some texts, the most frequent ones when `vocab_size` (with the two special tokens) is given.

        Among words met equally often, those first in the alphabet stay.
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
                raise UserError(f"vocab_size={vocab_size} leaves no room for words beside the {len(specials)} special tokens")
            words = words[: vocab_size - len(specials)]
        return cls({word: i for i, word in enumerate([*sorted(words), *specials])})
