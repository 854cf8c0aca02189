"""One text in generation: receives its tokens one by one, and records when and why it ends.

Tests: tests/generation/test_engine.py, tests/generation/test_decode.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from llm_scratch.errors import UserError
from llm_scratch.generation.cached_model import NO_CHOICE, PAD
from llm_scratch.generation.config import GenerationConfig
from llm_scratch.generation.detokenizer import StopReason, StreamingDetokenizer, TextChunk
from llm_scratch.tokenizers.special import end_ids


class Row:
    """The state of one text: its settings, its number of tokens and its undecoded bytes.

    Args:
        prompt: token ids, at least one.
        config: its settings.
        tokenizer: decodes its tokens; None: chunks have ids and no text, and no token ends it.
        context_length: tokens of a full context; None: without a limit.
    Attributes:
        length: number of tokens, of prompt and text.
        stop_reason: why the text has ended; None while it has not.
    Raises:
        UserError: stop strings or a constraint without a tokenizer.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        config: GenerationConfig,
        tokenizer: Any | None = None,
        context_length: int | None = None,
    ) -> None:
        self.prompt = tuple(prompt)
        self.config = config
        self.context_length = context_length
        self.length = len(self.prompt)
        self.stop_reason: StopReason | None = None
        self._ends = end_ids(tokenizer)
        self._detokenizer = None
        if tokenizer is not None:
            last = self.prompt[-1]
            self._detokenizer = StreamingDetokenizer(
                tokenizer, last, self._ends, config.stop, config.stop_at_eot
            )
        elif config.stop:
            raise UserError("stop: strings need a tokenizer; pass one, or leave them out")

    @property
    def overflows(self) -> bool:
        """Whether there are more tokens than the context holds."""
        return self.context_length is not None and self.length > self.context_length

    def push(self, token: int, logits: Tensor) -> TextChunk:
        """Add a token; its chunk of text, with log-probabilities if the settings request them.

        Args:
            token: an id, `NO_CHOICE`, or `PAD` for a text that has ended.
            logits: [V], the model's, unprocessed.
        """
        if token == NO_CHOICE:
            return self.end("excluded" if bool((logits < float("inf")).all()) else "not_finite")
        if token == PAD:
            return self.end("end_of_text")
        self.length += 1
        text = "" if self._detokenizer is None else self._detokenizer.push(token)
        self.stop_reason = self._reason(token)
        if self.stop_reason is not None:
            text += self._flush()
        if self.config.top is None:
            return TextChunk(text, token, stop_reason=self.stop_reason)
        logprobs = logits.log_softmax(-1)  # [V]
        best = logprobs.topk(min(self.config.top, len(logprobs)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return TextChunk(text, token, float(logprobs[token]), top, self.stop_reason)

    def end(self, reason: StopReason) -> TextChunk:
        """End the text without a new token; the chunk has the text that was held back."""
        self.stop_reason = reason
        return TextChunk(self._flush(), stop_reason=reason)

    def reached_limit(self) -> StopReason | None:
        """Why no further token can be generated; None: one can."""
        if self.length - len(self.prompt) >= self.config.max_tokens:
            return "length"
        if self.overflows and self.config.context_overflow == "stop":
            return "context"
        return None

    def _reason(self, token: int) -> StopReason | None:
        if self._detokenizer is not None and self._detokenizer.done:
            return "end_of_text" if token in self._ends else "stop"
        return self.reached_limit()

    def _flush(self) -> str:
        if self._detokenizer is None or self._detokenizer.done:
            return ""
        return self._detokenizer.flush()
