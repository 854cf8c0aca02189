"""`chat`: an interactive session with a trained model in the terminal.

Input goes to the model; a line that starts with / is a command, see chat_commands.py.
Tests: tests/cli/test_chat.py (a real terminal, by pexpect).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.chat_session import EXIT_HINT, ChatSession
from llm_scratch.cli.device import Dtype
from llm_scratch.cli.flags import Command, Flag, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.sampling_flags import SamplingFlags
from llm_scratch.cli.terminal import print_error
from llm_scratch.cli.token_printer import BOLD, supports_color
from llm_scratch.cli.word_wrap import RESET
from llm_scratch.errors import UserError, one_line
from llm_scratch.generation.chat import Conversation


@dataclass(frozen=True)
class Chat(Command, SamplingFlags):
    """Chat with the model in RUN.

    A base model continues texts: each line starts a new one, as in `generate`.

    --transcript makes it a conversation, which base models are worse at.

    Ctrl-C stops an answer, Ctrl-D exits, Tab completes, /? shows the commands.

    examples:
      llm-scratch chat quickstart
      llm-scratch chat runs/bard --transcript --system "Two merchants talk."
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    system: Annotated[str, option("TEXT")] = ""
    """system prompt: text before the first turn"""
    transcript: Flag = False
    """use a transcript of the whole conversation as the prompt, instead of the last input"""
    max_tokens: int = 200
    """maximum number of tokens of an answer"""
    seed: Annotated[int | None, option("INT")] = None
    """random seed;
    the same seed and inputs give the same answers (default: a new one for each answer)
    """
    show_probs: Flag = False
    """color each token by its probability under the model"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """precision of the weights: auto measures which is fastest here, and prints it"""
    compile: Flag = False
    """compile the single-token step for faster generation;
    takes 0.5 to 3 minutes with g++, once per model shape
    """

    def run(self) -> None:
        """Load the model, then read input and print answers until the end of input."""
        self.kwargs()
        resolve_model_path(self.run_)
        sampling = SamplingFlags(
            **{name: getattr(self, name) for name in SamplingFlags.__dataclass_fields__}
        )
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


def read_input(marked: bool = False) -> str | None:
    """Read one input: a line, or `/say` with the lines between two \\"\\"\\".

    None at the end of input.

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
