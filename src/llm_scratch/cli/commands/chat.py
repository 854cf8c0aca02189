"""`chat`: an interactive session with a trained model in the terminal.

Input goes to the model; a line that starts with / is a command, see chat_commands.py.
Tests: tests/cli/test_chat.py (a real terminal, by pexpect).
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.conversation import ASSISTANT, STOP_STRINGS, USER, Conversation
from llm_scratch.cli.device import Dtype, load_for_inference
from llm_scratch.cli.flags import Command, Flag, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.output import is_quiet
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.cli.terminal import print_error, print_line
from llm_scratch.cli.token_printer import BOLD, format_chunk, supports_color, word_wrapper
from llm_scratch.cli.word_wrap import RESET
from llm_scratch.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.generation.detokenizer import TextChunk
    from llm_scratch.model.kv_cache import KVCache
    from llm_scratch.tokenizers import Tokenizer

EXIT_HINT = "Ctrl-D or /bye exits."
RETRY_SEEDS = 1_000_003
"""distance between the seeds of two answers to the same text"""


@dataclass(frozen=True)
class Chat(Command, SamplingFlags):
    """Chat with the model in RUN.

    A base model continues texts: each line starts a new one, as in `generate`.

    --transcript makes it a conversation, which base models are worse at.

    Ctrl-C stops an answer, Ctrl-D exits, Tab completes, /? shows the commands.

    examples:
      llm-scratch chat quickstart
      llm-scratch chat runs/bard --transcript --system "Two merchants session."
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name, or a checkpoint file or folder (docs/weights.md)"""
    system: Annotated[str, option("TEXT")] = ""
    """system prompt: text before the first turn"""
    transcript: Flag = False
    """use a transcript of the whole conversation as the prompt, instead of the last input"""
    max_tokens: int = 200
    """maximum number of tokens of an answer"""
    seed: Annotated[int | None, option("INT")] = None
    """random seed; the same seed and inputs give the same answers (default: a new one for each answer)"""
    show_probs: Flag = False
    """color each token by its probability under the model"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """precision of the weights: auto measures which is fastest here, and prints it"""
    compile: Flag = False
    """compile the single-token step for faster generation; takes half a minute with g++, once per model shape"""

    def run(self) -> None:
        """Load the model, then read input and print answers until the end of input."""
        self.kwargs()
        resolve_model_path(self.run_)
        sampling = SamplingFlags(**{name: getattr(self, name) for name in SamplingFlags.__dataclass_fields__})
        session = ChatSession(
            sampling,
            Conversation(self.system, transcript=self.transcript),
            self.device,
            self.dtype,
            self.compile,
            self.max_tokens,
            self.seed,
            self.show_probs,
        )
        session.load_model(self.run_)
        from llm_scratch.cli.chat_commands import run_command
        from llm_scratch.cli.completion import enable_line_editing

        marked = enable_line_editing()
        while (line := read_input(marked)) is not None:
            try:
                if not run_command(session, line):
                    return
            except UserError as e:
                print_error(one_line(str(e)))


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
    model: nn.Module | None = None
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

        self.model, self.tokenizer, description = load_for_inference(
            resolve_model_path(run), self.device, self.dtype, long_generation=True, compile=self.compile
        )
        self.cache = self.model.new_cache(1) if hasattr(self.model, "new_cache") else None  # type: ignore[operator]
        self.run = run
        if is_quiet():
            return
        print_line(f"{run}: context of {context_length(self.model)} tokens, on {description}.")
        print_line(self.prompt_description())
        print_line(f"Ctrl-C stops an answer. {EXIT_HINT} /? shows the commands.\n")

    def prompt_description(self) -> str:
        """How the prompt is made, and the command that changes it."""
        if self.conversation.transcript:
            return "This is a base model: it continues text, so the chat is a transcript that it extends; /transcript off turns that off."
        return (
            "This is a base model: it continues what you type, as `generate` does. "
            "An empty line continues the last text; /transcript makes it a conversation."
        )

    def reply(self, text: str) -> None:
        """Stream the answer to a user input. Ctrl-C stops it; the part so far stays in the conversation."""
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
        from llm_scratch.tokenizers.special import end_of_text

        turns, text, last = self.conversation.turns, "", None
        screen = word_wrapper()
        try:
            with contextlib.closing(self._pieces(sum(role == USER for role, _ in turns) - 1)) as pieces:
                for piece in pieces:
                    if not text.strip():  # print no whitespace before the first word
                        shown = replace(piece, text=piece.text.lstrip())
                    else:
                        shown = piece
                    text += piece.text
                    last = piece.id if piece.id is not None else last
                    screen.add(*format_chunk(shown, self.show_probs))
        except KeyboardInterrupt:
            pass
        screen.add("\n\n")
        self.ended = last is not None and last == end_of_text(self.tokenizer)
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
        yield from stream_chunks(
            self.model,  # type: ignore[arg-type]
            self.tokenizer,
            prompt,
            max_new_tokens=self.max_tokens,
            stop=STOP_STRINGS if self.conversation.transcript else [],
            seed=secrets.randbelow(2**31) if self.seed is None else self.seed + turn + RETRY_SEEDS * self.retries,
            top=0 if self.show_probs else None,
            cache=self.cache,
            **self.sampling.kwargs(),
        )

    def fits_context(self, text: str) -> bool:
        """Whether the context has space for an answer after a transcript: `max_tokens`, or half of the context if that is less."""
        from llm_scratch.generation.decode import encode_prompt
        from llm_scratch.model.introspection import context_length

        room = context_length(self.model)  # type: ignore[arg-type]
        length = len(encode_prompt(self.model, self.tokenizer, text))  # type: ignore[arg-type]
        return room is None or length <= room - min(self.max_tokens, room // 2)


def read_input(marked: bool = False) -> str | None:
    """Read one input: a line, or `/say` with the lines between two \\"\\"\\". None at the end of input.

    Args:
        marked: put marks around control codes in the prompt, which GNU readline needs.
    """
    interactive = sys.stdin.isatty()
    bold, reset = (BOLD, RESET) if interactive and supports_color() else ("", "")
    start = f"\x01{bold}\x02" if marked and bold else bold
    lines: list[str] = []
    while True:
        try:
            line = input(f"{start}{'... ' if lines else '>>> '}" if interactive else "")
        except EOFError:
            if interactive:
                print(reset)
            return None
        except KeyboardInterrupt:
            print(f"{reset}\n{EXIT_HINT}")
            lines = []
            continue
        print(reset, end="", flush=True)
        opened = line.removeprefix('"""') if not lines and line.startswith('"""') else None
        if not lines and opened is None:
            return line
        lines.append(line if opened is None else opened)
        if lines[-1].rstrip().endswith('"""'):
            text = "\n".join(lines).rstrip().removesuffix('"""').strip("\n")
            return f"/say {text}"
