"""Write with a trained model in the terminal. Tests: tests/cli/test_chat.py (a real terminal, by pexpect).

What you type goes to the model; a line that begins with / is a command, see chat_commands.py.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.conversation import MODEL, STOP_STRINGS, YOU, Conversation
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

EXIT_HINT = "Ctrl-D or /bye leaves."
RETRY_SEEDS = 1_000_003
"""distance between the seeds of two answers to the same text"""


@dataclass(frozen=True)
class Chat(Command, SamplingFlags):
    """Write with the model in RUN, turn by turn.

    A base model continues texts: each line begins one, as for `generate`.

    --transcript makes it a conversation, which base models do less well.

    Ctrl-C stops an answer, Ctrl-D leaves, Tab completes, /? shows the commands.

    examples:
      llm-scratch chat quickstart
      llm-scratch chat runs/bard --transcript --system "Two merchants talk."
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name, or a file or folder of weights (docs/weights.md)"""
    system: Annotated[str, option("TEXT")] = ""
    """a text before what you type"""
    transcript: Flag = False
    """make the prompt a transcript of the whole conversation, instead of what was typed last"""
    max_tokens: int = 200
    """longest answer"""
    seed: Annotated[int | None, option("INT")] = None
    """the same seed, the same answers to the same words"""
    show_probs: Flag = False
    """color each token by its probability"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """bits of the weights while writing: auto takes what is fastest here, and says why"""
    compile: Flag = False
    """compile a token's step first: half a minute with g++, once for each shape of model; a token then takes less time"""

    def run(self) -> None:
        """Load, greet, then read and answer until the end."""
        self.settings()
        resolve_model_path(self.run_)
        samplers = SamplingFlags(**{name: getattr(self, name) for name in SamplingFlags.__dataclass_fields__})
        talk = ChatSession(
            samplers,
            Conversation(self.system, transcript=self.transcript),
            self.device,
            self.dtype,
            self.compile,
            self.max_tokens,
            self.seed,
            self.show_probs,
        )
        talk.open(self.run_)
        from llm_scratch.cli.chat_commands import run_command
        from llm_scratch.cli.completion import enable_line_editing

        marked = enable_line_editing()
        while (words := read_input(marked)) is not None:
            try:
                if not run_command(talk, words):
                    return
            except UserError as e:
                print_error(one_line(str(e)))


@dataclass
class ChatSession:
    """What a conversation needs: a model, how it draws, and what was said."""

    samplers: SamplingFlags
    conversation: Conversation
    device: str
    dtype: Dtype
    compile: bool
    max_tokens: int
    seed: int | None
    probs: bool
    run: str = ""
    model: nn.Module | None = None
    tokenizer: Tokenizer | None = None
    cache: KVCache | None = None
    """what the model has read of the text: a turn reads only what is new"""
    retries: int = 0
    """answers to the last text that were taken back: each has another seed"""
    ended: bool = False
    """whether the model ended its last text itself"""

    def open(self, run: str) -> None:
        """Take the model of a run, and say what it is."""
        from llm_scratch.model.introspection import context_length

        self.model, self.tokenizer, how = load_for_inference(
            resolve_model_path(run), self.device, self.dtype, much=True, compiled=self.compile
        )
        self.cache = self.model.new_cache(1) if hasattr(self.model, "new_cache") else None  # type: ignore[operator]
        self.run = run
        if is_quiet():
            return
        print_line(f"{run}: context of {context_length(self.model)} tokens, on {how}.")
        print_line(self.form())
        print_line(f"Ctrl-C stops an answer. {EXIT_HINT} /? shows the commands.\n")

    def form(self) -> str:
        """How the model is prompted, and how to change that."""
        if self.conversation.transcript:
            return "This is a base model: the chat is a transcript that it continues; /transcript off continues texts instead."
        return (
            "This is a base model: it continues what you type, as `generate` does. "
            "Enter alone continues further; /transcript makes it a conversation."
        )

    def answer(self, words: str) -> None:
        """Print the model's answer as it comes; Ctrl-C ends it there. What came is kept, also when it was stopped."""
        self.conversation.turns.append((YOU, words))
        self.retries = 0
        try:
            self._reply()
        except UserError:
            self.conversation.turns.pop()
            raise

    def continue_answer(self) -> None:
        """Let the model continue its last text; in a transcript there is nothing to continue."""
        turns = self.conversation.turns
        if self.conversation.transcript or len(turns) < 2 or turns[-1][0] != MODEL:
            return
        if self.ended:
            raise UserError("the model has ended this text; type the beginning of another, or /retry")
        self._reply()

    def retry(self) -> None:
        """Take the last answer back and give another."""
        before = self.conversation.turns
        self.conversation.remove_answer()
        self.retries += 1
        try:
            self._reply()
        except UserError:
            self.conversation.turns = before
            raise

    def _reply(self) -> None:
        """Print the continuation of the prompt, and add it to the conversation."""
        from llm_scratch.tokenizers.special import end_of_text

        turns, text, last = self.conversation.turns, "", None
        screen = word_wrapper()
        try:
            with contextlib.closing(self._pieces(sum(who == YOU for who, _ in turns) - 1)) as pieces:
                for piece in pieces:
                    if not text.strip():  # an answer begins with its first word
                        shown = replace(piece, text=piece.text.lstrip())
                    else:
                        shown = piece
                    text += piece.text
                    last = piece.id if piece.id is not None else last
                    screen.add(*format_chunk(shown, self.probs))
        except KeyboardInterrupt:
            pass
        screen.add("\n\n")
        self.ended = last is not None and last == end_of_text(self.tokenizer)
        if self.conversation.transcript:
            text = text.strip()
        if turns[-1][0] == MODEL:
            text = turns.pop()[1] + text
        turns.append((MODEL, text))

    def _pieces(self, turn: int) -> Generator[TextChunk]:
        """The pieces of the next answer."""
        from llm_scratch.generation.decode import stream_chunks

        before = self.conversation.left_out
        prompt = self.conversation.prompt(self.fits)
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
            top=0 if self.probs else None,
            cache=self.cache,
            **self.samplers.settings(),
        )

    def fits(self, text: str) -> bool:
        """Whether a transcript leaves room for an answer in the model's context, or half of it where answers may be longer than that."""
        from llm_scratch.generation.decode import encode_prompt
        from llm_scratch.model.introspection import context_length

        room = context_length(self.model)  # type: ignore[arg-type]
        length = len(encode_prompt(self.model, self.tokenizer, text))  # type: ignore[arg-type]
        return room is None or length <= room - min(self.max_tokens, room // 2)


def read_input(marked: bool = False) -> str | None:
    """What is typed: a line, or `/say` and the lines between two \\"\\"\\". None at the end of the input.

    Args:
        marked: whether the line editor needs marks around the control codes in the prompt, as GNU readline does.
    """
    asks = sys.stdin.isatty()
    bold, reset = (BOLD, RESET) if asks and supports_color() else ("", "")
    start = f"\x01{bold}\x02" if marked and bold else bold
    lines: list[str] = []
    while True:
        try:
            line = input(f"{start}{'... ' if lines else '>>> '}" if asks else "")
        except EOFError:
            if asks:
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
