"""Streaming detokenizer: tokens to text, in whole characters and up to a stop string.

A token may contain half a character, and a stop string may span several tokens, so undecided text
is buffered.
Tests: tests/generation/test_detokenizer.py (joined chunks equal the whole text).
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_scratch.errors import UserError

StopReason = Literal["end_of_text", "stop", "length", "context", "excluded", "not_finite"]
"""Why a text ended.

The end-of-text token, a stop string, its maximum number of tokens, a full context, every token
excluded by penalties or a constraint, or logits that are not finite.
"""


@dataclass(frozen=True)
class TextChunk:
    """Text that one token added.

    Attributes:
        text: whole characters; "" while a character or a stop string may not be complete.
        id: the token; None in a last chunk without a new token.
        logprob: log-probability of the token in nats, before any sampler; None if not requested.
        top: the most likely tokens at this position with their log-probabilities, the best first.
        stop_reason: in the last chunk of a text, why it ended; else None.
    """

    text: str
    id: int | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    stop_reason: StopReason | None = None


class StreamingDetokenizer:
    """Decodes one text token by token.

    Args:
        tokenizer: with tiktoken's `decode_bytes`.
        last: the token before the first one. A token is decoded after its predecessor, as word
            tokenizers put a space between words.
        ends: the tokens that end a text, not part of it.
        stop: strings that end the text, not part of it.
        stop_at_eot: whether the text ends with the first of `ends`.
    Attributes:
        done: whether the text has ended.
    Raises:
        UserError: an empty stop string.
    """

    def __init__(
        self,
        tokenizer: Any,
        last: int,
        ends: Collection[int] = (),
        stop: Sequence[str] = (),
        stop_at_eot: bool = True,
    ) -> None:
        if "" in stop:
            raise UserError("a stop string is empty; expected at least one character")
        self.tokenizer = tokenizer
        self.last = last
        self.ends = ends
        self.stop = tuple(stop)
        self.stop_at_eot = stop_at_eot
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.buffer = ""
        self.done = False

    def push(self, token: int) -> str:
        """Add a token; return the text that is complete now."""
        if token in self.ends:
            self.last = token
            return self.flush() if self.stop_at_eot else ""
        n_before = len(self.tokenizer.decode_bytes([self.last]))
        new_bytes = self.tokenizer.decode_bytes([self.last, token])[n_before:]
        self.buffer += self.decoder.decode(new_bytes)
        self.last = token
        return self._take_complete()

    def flush(self) -> str:
        """End the text; return what was buffered. An incomplete character becomes U+FFFD."""
        self.buffer += self.decoder.decode(b"", final=True)
        text = self._take_complete() + self.buffer
        self.buffer = ""
        self.done = True
        return text

    def _take_complete(self) -> str:
        """Take the text before a stop string, or before what may be the start of one."""
        starts = [self.buffer.find(stop) for stop in self.stop if stop in self.buffer]
        if starts:
            text = self.buffer[: min(starts)]
            self.buffer = ""
            self.done = True
            return text
        partial = [
            n
            for stop in self.stop
            for n in range(len(stop) - 1, 0, -1)
            if self.buffer.endswith(stop[:n])
        ]
        end = len(self.buffer) - max(partial, default=0)
        text = self.buffer[:end]
        self.buffer = self.buffer[end:]
        return text
