"""Continue a text with a trained model, piece by piece as it comes. Proof: tests/cli/test_generate.py."""

from __future__ import annotations

import secrets
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Verb, option
from llm_scratch.cli.folders import resolve
from llm_scratch.cli.terminal import on_terminal, printable
from llm_scratch.errors import DATA, UserError

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.tokenizers import Tokenizer


@dataclass(frozen=True)
class Generate(Verb):
    """Continue each PROMPT with the model in RUN.

    The text goes to stdout as it comes, speed and seed to stderr.

    examples:
      llm-scratch generate quickstart "The story of Anna" --samples 3
      echo "ROMEO:" | llm-scratch generate runs/bard - --temperature 0.7
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, a preset (its newest run), a checkpoint folder, or a .pth file of the notebooks"""
    prompts: Positional[Annotated[tuple[str, ...], option("PROMPT")]] = ()
    """where to begin; "-" reads standard input; without one, the model begins by itself"""
    tokens: int = 200
    """how many to add at most; a model that ends its text stops sooner"""
    temperature: float = 0.8
    """0 takes the likeliest token each time; 1 draws as the model says; above, wilder"""
    top_k: Annotated[int | None, option("INT")] = None
    """draw among this many likeliest tokens only"""
    top_p: Annotated[float | None, option("FLOAT")] = None
    """draw among the likeliest tokens that together have this probability"""
    seed: Annotated[int | None, option("INT")] = None
    """the same seed, the same text; drawn by chance unless given"""
    samples: int = 1
    """continuations of each prompt"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Load once, then write every sample of every prompt."""
        if self.samples < 1:
            raise UserError(f"samples={self.samples} must be at least 1")
        where = resolve(self.run_)
        prompts = [standard_input() if prompt == "-" else prompt for prompt in self.prompts or ("",)]
        from llm_scratch.cli.device import choose
        from llm_scratch.loading import load

        model, tokenizer = load(where, choose(self.device)[0])
        seed = secrets.randbelow(10**6) if self.seed is None else self.seed
        began, written = time.perf_counter(), 0
        for number, prompt in enumerate(prompt for prompt in prompts for _ in range(self.samples)):
            if number:
                print("\n")
            written += self._write(model, tokenizer, prompt, seed + number)
        seconds = time.perf_counter() - began
        print(f"\n[{written} tokens in {seconds:.1f} s, {written / max(seconds, 1e-9):.0f} tokens/s, seed {seed}]", file=sys.stderr)

    def _write(self, model: nn.Module, tokenizer: Tokenizer, prompt: str, seed: int) -> int:
        """Print the prompt (bold on a terminal) and its continuation; returns how many tokens were written."""
        from llm_scratch.generation.decode import stream

        screen = on_terminal()
        show = printable if screen else str
        pieces = stream(
            model,
            tokenizer,
            prompt,
            max_new_tokens=self.tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=seed,
        )
        first = next(pieces, "")  # a bad setting is told before anything is printed
        print(f"\x1b[1m{show(prompt)}\x1b[0m" if screen and _colours() else show(prompt), end="")
        text = first
        print(show(first), end="", flush=True)
        for piece in pieces:
            print(show(piece), end="", flush=True)
            text += piece
        print(flush=True)
        return len(tokenizer.encode(text, disallowed_special=()))


def standard_input() -> str:
    """All of standard input, without the line break at its end.

    Raises:
        UserError: it is not UTF-8, or empty (code 3).
    """
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as e:
        raise UserError("standard input is not UTF-8 text; convert it, e.g. with iconv", DATA) from e
    if not text:
        raise UserError("standard input is empty; expected a text to continue", DATA)
    return text


def _colours() -> bool:
    from rich.console import Console

    return Console().color_system is not None
