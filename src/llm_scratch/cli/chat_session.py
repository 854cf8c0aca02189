"""A chat with a model: settings, conversation and cache, and how an answer is made and printed.

Tests: tests/cli/test_chat.py.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llm_scratch.cli.device import Dtype, load_model
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.cli.terminal import print_error, print_line
from llm_scratch.cli.token_printer import format_chunk, word_wrapper
from llm_scratch.errors import UserError
from llm_scratch.generation.chat import ASSISTANT, STOP_STRINGS, USER, Conversation

if TYPE_CHECKING:
    from llm_scratch.generation.detokenizer import TextChunk
    from llm_scratch.model.kv_cache import KVCache
    from llm_scratch.model.language_model import LanguageModel
    from llm_scratch.tokenizers import Tokenizer

EXIT_HINT = "Ctrl-D or /bye exits."
RETRY_SEEDS = 1_000_003
"""distance between the seeds of two answers to the same text"""


@dataclass
class ChatSession:
    """The state of a chat: model, sampling settings and conversation."""

    sampling: SamplingFlags
    conversation: Conversation
    device: str
    dtype: Dtype
    compile: bool
    max_tokens: int
    seed: int | None
    show_probs: bool
    run: str = ""
    model: LanguageModel | None = None
    tokenizer: Tokenizer | None = None
    cache: KVCache | None = None
    """keys and values of the text so far: a turn computes only those of its new tokens"""
    retries: int = 0
    """number of retries of the last answer; each has another seed"""
    ended: bool = False
    """whether the last answer ended with the end-of-text token"""

    def load_model(self, run: str) -> None:
        """Load the model of a run and print what it is."""
        from llm_scratch.model.introspection import context_length

        self.model, self.tokenizer, description = load_model(
            resolve_model_path(run),
            self.device,
            self.dtype,
            long_generation=True,
            compile=self.compile,
        )
        self.cache = self.model.new_cache(1)
        self.run = run
        if is_quiet():
            return
        print_line(f"{run}: context of {context_length(self.model)} tokens, on {description}.")
        print_line(self.prompt_description())
        print_line(f"Ctrl-C stops an answer. {EXIT_HINT} /? shows the commands.\n")

    def prompt_description(self) -> str:
        """How the prompt is made, and the command that changes it."""
        if getattr(self.tokenizer, "chat_template", None) is None:
            kind = "This is a base model"
        else:
            kind = "The chat template of this model is not used"
        if self.conversation.transcript:
            return (
                f"{kind}: it continues text,"
                " so the chat is a transcript that it extends; /transcript off turns that off."
            )
        return (
            f"{kind}: it continues what you type, as `generate` does."
            " An empty line continues the last text; /transcript makes it a conversation."
        )

    def reply(self, text: str) -> None:
        """Stream the answer to a user input; after Ctrl-C the part so far stays in the chat."""
        self.conversation.turns.append((USER, text))
        self.retries = 0
        try:
            self._stream_answer()
        except UserError:
            self.conversation.turns.pop()
            raise

    def continue_answer(self) -> None:
        """Continue the last answer; does nothing in a transcript."""
        turns = self.conversation.turns
        if self.conversation.transcript or len(turns) < 2 or turns[-1][0] != ASSISTANT:
            return
        if self.ended:
            raise UserError("the text ended with the end-of-text token; type a new text, or /retry")
        self._stream_answer()

    def retry(self) -> None:
        """Replace the last answer by another."""
        before = self.conversation.turns
        self.conversation.remove_answer()
        self.retries += 1
        try:
            self._stream_answer()
        except UserError:
            self.conversation.turns = before
            raise

    def _stream_answer(self) -> None:
        """Stream the continuation of the prompt, and add it to the conversation."""
        from llm_scratch.tokenizers.special import end_ids

        turns, text, last = self.conversation.turns, "", None
        screen = word_wrapper()
        try:
            with contextlib.closing(
                self._pieces(sum(role == USER for role, _ in turns) - 1)
            ) as pieces:
                for piece in pieces:
                    if not text.strip():  # print no whitespace before the first word
                        shown = replace(piece, text=piece.text.lstrip())
                    else:
                        shown = piece
                    text += piece.text
                    last = piece.id if piece.id is not None else last
                    if shown.text or not piece.text:
                        screen.add(*format_chunk(shown, self.show_probs))
        except KeyboardInterrupt:
            pass
        screen.add("\n\n")
        self.ended = last in end_ids(self.tokenizer)
        if self.conversation.transcript:
            text = text.strip()
        if turns[-1][0] == ASSISTANT:
            text = turns.pop()[1] + text
        turns.append((ASSISTANT, text))

    def _pieces(self, turn: int) -> Generator[TextChunk]:
        """Generate the next answer.

        Args:
            turn: its number, from 0; with a fixed seed, each turn has its own.
        """
        from llm_scratch.generation.decode import stream_chunks

        before = self.conversation.left_out
        prompt = self.conversation.prompt(self.fits_context)
        if (left_out := self.conversation.left_out) > before:
            turns = f"the first {left_out} turns are" if left_out > 1 else "the first turn is"
            print_error(f"warning: the context is full: {turns} left out")
        seed = None if self.seed is None else self.seed + turn + RETRY_SEEDS * self.retries
        yield from stream_chunks(
            self.model,  # type: ignore[arg-type]
            self.tokenizer,
            prompt,
            max_new_tokens=self.max_tokens,
            stop=STOP_STRINGS if self.conversation.transcript else [],
            seed=secrets.randbelow(2**31) if seed is None else seed,
            top=0 if self.show_probs else None,
            cache=self.cache,
            **self.sampling.kwargs(),
        )

    def fits_context(self, text: str) -> bool:
        """Whether the context has space for an answer after a transcript.

        The space is `max_tokens`, or half of the context if that is less.
        """
        from llm_scratch.generation.decode import encode_prompt
        from llm_scratch.model.introspection import context_length

        room = context_length(self.model)  # type: ignore[arg-type]
        length = len(encode_prompt(self.model, self.tokenizer, text))  # type: ignore[arg-type]
        return room is None or length <= room - min(self.max_tokens, room // 2)
