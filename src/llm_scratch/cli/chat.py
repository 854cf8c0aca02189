"""A conversation with a trained model in the terminal. Proof: tests/cli/test_chat.py (a real terminal, by pexpect).

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

from llm_scratch.cli.conversation import MODEL, STOPS, YOU, Conversation
from llm_scratch.cli.device import Dtype, ready
from llm_scratch.cli.flags import Switch, Verb, option
from llm_scratch.cli.folders import resolve
from llm_scratch.cli.samplers import Samplers
from llm_scratch.cli.writing import dressed
from llm_scratch.errors import UserError, one_line

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.generation.pieces import Piece
    from llm_scratch.model.cache import KVCache
    from llm_scratch.tokenizers import Tokenizer

BYE = "Ctrl-D or /bye leaves."


@dataclass(frozen=True)
class Chat(Verb, Samplers):
    """Talk with the model in RUN.

    It only continues texts: the talk is a transcript that it goes on with.

    Ctrl-C stops an answer, Ctrl-D leaves, /? shows the commands.

    examples:
      llm-scratch chat quickstart
      llm-scratch chat runs/bard --temperature 0.7 --system "Two merchants talk."
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name, or a file or folder of weights (docs/weights.md)"""
    system: Annotated[str, option("TEXT")] = ""
    """a text that stands before the conversation"""
    tokens: int = 200
    """longest answer"""
    seed: Annotated[int | None, option("INT")] = None
    """the same seed, the same answers to the same words"""
    show_probs: Switch = False
    """colour each token by the probability that the model gave it"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """bits of the weights while writing: auto takes what is fastest here, and says why"""
    compile: Switch = False
    """compile a token's step first: half a minute with g++, once for each shape of model; a token then takes less time"""

    def run(self) -> None:
        """Load, greet, then read and answer until the end."""
        self.settings()
        resolve(self.run_)
        samplers = Samplers(**{name: getattr(self, name) for name in Samplers.__dataclass_fields__})
        talk = Talk(samplers, Conversation(self.system), self.device, self.dtype, self.compile, self.tokens, self.seed, self.show_probs)
        talk.open(self.run_)
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  arrow keys and history

        from llm_scratch.cli.chat_commands import obey

        while (words := listen()) is not None:
            try:
                if words.startswith("/"):
                    if not obey(talk, words):
                        return
                elif words.strip():
                    talk.answer(words)
            except UserError as e:
                print(f"llm-scratch: {one_line(str(e))}", file=sys.stderr)


@dataclass
class Talk:
    """What a conversation needs: a model, how it draws, and what was said."""

    samplers: Samplers
    conversation: Conversation
    device: str
    dtype: Dtype
    compile: bool
    tokens: int
    seed: int | None
    probs: bool
    run: str = ""
    model: nn.Module | None = None
    tokenizer: Tokenizer | None = None
    cache: KVCache | None = None
    """what the model has read of the transcript: a turn reads only what is new"""

    def open(self, run: str) -> None:
        """Take the model of a run, and say what it is."""
        from llm_scratch.model.running import context_length

        self.model, self.tokenizer, how = ready(resolve(run), self.device, self.dtype, much=True, compiled=self.compile)
        self.cache = self.model.new_cache(1) if hasattr(self.model, "new_cache") else None  # type: ignore[operator]
        self.run = run
        print(f"{run} sees {context_length(self.model)} tokens at once. It continues texts and was not taught")
        print("to answer, so this is a transcript that it goes on with.")
        print(f"It runs on {how}.")
        print(f"Ctrl-C stops an answer. {BYE} /? shows the commands.\n")

    def answer(self, words: str) -> None:
        """Print the model's answer as it comes; Ctrl-C ends it there. What came is kept, also when it was stopped."""
        turns, text = self.conversation.turns, ""
        turns.append((YOU, words))
        try:
            with contextlib.closing(self._pieces(len(turns))) as pieces:
                for piece in pieces:
                    if not text:  # the space between "Model:" and its first word
                        piece = replace(piece, text=piece.text.lstrip())
                    text += piece.text
                    print(dressed(piece, self.probs), end="", flush=True)
        except UserError:
            turns.pop()
            raise
        except KeyboardInterrupt:
            pass
        print("\n")
        turns.append((MODEL, text.strip()))

    def _pieces(self, turn: int) -> Generator[Piece]:
        """The pieces of the next answer."""
        from llm_scratch.generation.decode import stream_pieces

        before = self.conversation.left_out
        prompt = self.conversation.prompt(self.fits)
        if (left_out := self.conversation.left_out) > before:
            turns = f"the first {left_out} turns are" if left_out > 1 else "the first turn is"
            print(f"llm-scratch: warning: the context is full: {turns} left out", file=sys.stderr)
        yield from stream_pieces(
            self.model,  # type: ignore[arg-type]
            self.tokenizer,
            prompt,
            max_new_tokens=self.tokens,
            stop=STOPS,
            seed=secrets.randbelow(2**31) if self.seed is None else self.seed + turn,
            top=0 if self.probs else None,
            cache=self.cache,
            **self.samplers.settings(),
        )

    def fits(self, text: str) -> bool:
        """Whether a transcript leaves room for an answer in the model's context, or half of it where answers may be longer than that."""
        from llm_scratch.generation.decode import encode_prompt
        from llm_scratch.model.running import context_length

        room = context_length(self.model)  # type: ignore[arg-type]
        length = len(encode_prompt(self.model, self.tokenizer, text))  # type: ignore[arg-type]
        return room is None or length <= room - min(self.tokens, room // 2)


def listen() -> str | None:
    """What is typed: a line, or the lines between two \\"\\"\\". None at the end of the input."""
    asks = sys.stdin.isatty()
    lines: list[str] = []
    while True:
        try:
            line = input((">>> " if not lines else "... ") if asks else "")
        except EOFError:
            if asks:
                print()
            return None
        except KeyboardInterrupt:
            print(f"\n{BYE}")
            lines = []
            continue
        opened = line.removeprefix('"""') if not lines and line.startswith('"""') else None
        if not lines and opened is None:
            return line
        lines.append(line if opened is None else opened)
        if lines[-1].rstrip().endswith('"""'):
            return "\n".join(lines).rstrip().removesuffix('"""').strip("\n")
