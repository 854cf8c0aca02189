"""Tokenizers that the `tokenizers` library runs: SentencePiece-style BPE and Unigram.

Llama 2, Mistral and Gemma split text at "▁", which stands for a space, and spell unknown characters
as bytes. Their `tokenizer.json` is kept as it is; the library encodes, and ids become bytes here,
because bytes can end in the middle of a character.
Tests: tests/tokenizers/test_library.py (ids equal to transformers').
Source: Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226;
https://huggingface.co/docs/tokenizers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from llm_scratch.errors import DATA, UserError, describe_error
from llm_scratch.extras import install_command
from llm_scratch.tokenizers.special import END_OF_TEXT, reject_special
from llm_scratch.tokenizers.tokenizer_json import write_tokenizer_json
from llm_scratch.tokenizers.vocabulary import unprintable

SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library.

    Args:
        data: the content of a `tokenizer.json`.
        end_of_text: the special token that ends a document.
    Attributes:
        data: the same, without the tokens that are added to each text: these belong to the model.
        special_tokens: name -> id.
        chat_template: how a chat is written, as a template of Jinja; None if unknown.
        puts_space_first: whether encoding puts a space before the first word of a text.
        other_ends: further special tokens that end a generated text.
    Raises:
        UserError: the library is missing (code 2), or cannot read it (code 3).
    """

    name = "library"

    def __init__(self, data: Mapping[str, Any], end_of_text: str = END_OF_TEXT) -> None:
        try:
            import tokenizers
        except ImportError:
            raise UserError(
                "this tokenizer needs the tokenizers package; install it with"
                f" `{install_command('hf')}`"
            ) from None
        self.data = dict(data) | {"post_processor": None, "truncation": None, "padding": None}
        self.end_of_text = end_of_text
        self.chat_template: str | None = None
        self.other_ends: tuple[str, ...] = ()
        try:
            self._library = tokenizers.Tokenizer.from_str(json.dumps(self.data))
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(_without_special(self.data)))
        except Exception as e:  # the library raises a plain Exception, and a vocabulary may be none
            raise UserError(
                f"the tokenizers library cannot read this tokenizer ({describe_error(e)}); download"
                " it again",
                DATA,
            ) from None
        self._plain.encode_special_tokens = True
        added = self._library.get_added_tokens_decoder()
        self.special_tokens = {each.content: i for i, each in added.items() if each.special}
        self._bytes = {i: self._bytes_of(piece) for piece, i in self._library.get_vocab().items()}
        self._bytes |= {i: each.content.encode() for i, each in added.items()}
        if not self._bytes:
            raise UserError("this tokenizer has no tokens; download it again", DATA)
        first = self._library.encode("a", add_special_tokens=False).ids
        self.puts_space_first = self.decode_bytes(first).startswith(b" ")

    @property
    def n_vocab(self) -> int:
        """Number of ids: the largest id plus one."""
        return max(self._bytes) + 1

    @property
    def eot_token(self) -> int:
        """The id of the token that ends a document."""
        if self.end_of_text not in self.special_tokens:
            raise UserError(f"this tokenizer has no {self.end_of_text!r} to end a document", DATA)
        return self.special_tokens[self.end_of_text]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | AbstractSet[str] = frozenset(),
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[int]:
        """Turn a text into ids; the arguments are those of `ByteBPE.encode`.

        The library recognizes all special tokens or none: of a text that has some that are allowed
        and others that are not, the others raise a ValueError.
        """
        names = self.special_tokens.keys()
        chosen = names if allowed_special == "all" else names & allowed_special
        reject_special(text, names - chosen if disallowed_special == "all" else disallowed_special)
        library = self._plain
        if any(name in text for name in chosen):
            reject_special(text, names - chosen)
            library = self._library
        return library.encode(_without_surrogates(text), add_special_tokens=False).ids

    def encode_continuation(self, text: str) -> list[int]:
        """Turn a text that continues another into ids, without a space before its first word.

        Special tokens in it are plain text.
        """
        return self._continuing.encode(_without_surrogates(text), add_special_tokens=False).ids

    @cached_property
    def _continuing(self) -> Any:
        """The library's tokenizer that puts no space first and reads special tokens as text."""
        if not self.puts_space_first:
            return self._plain
        import tokenizers

        data = _without_special(self.data)
        for step in ("normalizer", "pre_tokenizer"):
            data[step] = _without_prefix(data.get(step))
        library = tokenizers.Tokenizer.from_str(json.dumps(data))
        library.encode_special_tokens = True
        return library

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Decode ids to text, without the space that encoding puts before the first word."""
        text = self.decode_bytes(ids).decode("utf-8", errors)
        return text.removeprefix(" ") if self.puts_space_first else text

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Decode ids to bytes; those of a first word begin with a space. Unused ids give none."""
        ids = list(ids)
        if wrong := [i for i in ids if not 0 <= i < self.n_vocab]:
            raise ValueError(f"id {wrong[0]} is not in this vocabulary of {self.n_vocab} tokens")
        return b"".join(self._bytes.get(i, b"") for i in ids)

    def save(self, path: str | Path) -> None:
        """Save as `tokenizer.json` in a folder, or to a path that ends in .json."""
        write_tokenizer_json(path, self.data)

    def _bytes_of(self, piece: str) -> bytes:
        """The bytes of a piece of the vocabulary."""
        if byte := _BYTE.fullmatch(piece):
            return bytes([int(byte[1], 16)])
        if self._is_byte_level:
            try:
                return unprintable(piece)
            except UserError:
                return piece.encode()
        return piece.replace(SPACE, " ").encode()

    @property
    def _is_byte_level(self) -> bool:
        """Whether pieces spell bytes as GPT-2 does."""
        decoder = self.data.get("decoder") or {}
        steps = decoder.get("decoders", [decoder])
        return any(step.get("type") == "ByteLevel" for step in steps)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "end_of_text": self.end_of_text,
            "chat_template": self.chat_template,
            "other_ends": self.other_ends,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        LibraryTokenizer.__init__(self, state["data"], state["end_of_text"])
        self.chat_template = state["chat_template"]
        self.other_ends = state["other_ends"]


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which the library rejects, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _without_prefix(step: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a copy of a normalizer or pre-tokenizer that puts no space before a text."""
    if step is None or step["type"] == "Prepend":
        return None
    changed = dict(step)
    for parts in step.keys() & {"normalizers", "pretokenizers"}:  # of a Sequence
        changed[parts] = [part for part in map(_without_prefix, step[parts]) if part is not None]
    if step["type"] == "Metaspace":
        changed["prepend_scheme"] = "never"
    if "add_prefix_space" in step:  # of ByteLevel, and of older files' Metaspace
        changed["add_prefix_space"] = False
    return changed


def _without_special(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy that never finds special tokens in plain text.

    Unigram has them as pieces with the best score, so they get a spelling that no text has.
    """
    model = data["model"]
    if model.get("type") != "Unigram":
        return dict(data)
    pieces = {piece for piece, _ in model["vocab"]}
    rows = data.get("added_tokens") or []
    hidden = {token["content"] for token in rows if token["special"]} & pieces
    vocab = [[f"\0{piece}" if piece in hidden else piece, score] for piece, score in model["vocab"]]
    others = [token for token in rows if token["content"] not in hidden]
    return {**data, "added_tokens": others, "model": {**model, "vocab": vocab}}
