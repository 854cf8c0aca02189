"""From tokens to text while they come: whole characters only, nothing of what stands after a stop string.

A token may hold half of a character, and a stop string may begin in one token and end three tokens
later, so a writer holds back what is not settled yet. Proof: tests/generation/test_detokenizer.py
(joined pieces = the whole text, however it was cut).
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llm_scratch.errors import UserError


@dataclass(frozen=True)
class TextChunk:
    """What one token added to a text.

    Attributes:
        text: whole characters; "" while a character or a stop string may not be complete.
        id: the token; None in a last piece that only gives what was held back.
        logprob: log of the probability, in nats, that the model gave to the token before any
            sampler; None where it was not asked for.
        top: the likeliest tokens at this place with their log-probabilities, the best first.
    """

    text: str
    id: int | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def text_chunk(text: str, token: int, logprobs: Tensor | None, top: int) -> TextChunk:
    """A piece with the log-probability of its token and of the `top` likeliest, read off logprobs [V]."""
    if logprobs is None:
        return TextChunk(text, token)
    best = logprobs.topk(min(top, len(logprobs)))
    return TextChunk(text, token, float(logprobs[token]), tuple(zip(best.indices.tolist(), best.values.tolist())))


class StreamingDetokenizer:
    """Writes one text from its tokens.

    Args:
        tokenizer: any with tiktoken's `decode_bytes`.
        last: the token before the first one: word tokenizers put a space between two words, so a
            token is read with the one before it.
        eot: the end-of-text token, which is never shown; None: there is none.
        stop: strings that end the text; they are not shown.
        stop_at_eot: whether `eot` ends the text.
    Attributes:
        done: whether the text has ended.
    Raises:
        UserError: an empty stop string.
    """

    def __init__(
        self,
        tokenizer: Any,
        last: int,
        eot: int | None = None,
        stop: Sequence[str] = (),
        stop_at_eot: bool = True,
    ) -> None:
        if "" in stop:
            raise UserError("a stop string is empty; expected at least one character")
        self.tokenizer, self.last, self.eot, self.stop, self.stop_at_eot = (
            tokenizer,
            last,
            eot,
            tuple(stop),
            stop_at_eot,
        )
        self.whole = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.buffer, self.done = "", False

    def push(self, token: int) -> str:
        """The text that is settled now that this token has come."""
        if token == self.eot:
            self.last = token
            return self.flush() if self.stop_at_eot else ""
        before = len(self.tokenizer.decode_bytes([self.last]))
        self.buffer += self.whole.decode(self.tokenizer.decode_bytes([self.last, token])[before:])
        self.last = token
        return self._settled()

    def flush(self) -> str:
        """What was held back, since nothing follows; half a character becomes U+FFFD."""
        self.buffer += self.whole.decode(b"", final=True)
        text, self.buffer, self.done = self._settled() + self.buffer, "", True
        return text

    def _settled(self) -> str:
        """All up to a stop string, or up to where one may have begun."""
        found = [at for stop in self.stop if (at := self.buffer.find(stop)) >= 0]
        if found:
            text, self.buffer, self.done = self.buffer[: min(found)], "", True
            return text
        begun = (n for stop in self.stop for n in range(len(stop) - 1, 0, -1) if self.buffer.endswith(stop[:n]))
        cut = len(self.buffer) - max(begun, default=0)
        text, self.buffer = self.buffer[:cut], self.buffer[cut:]
        return text
