"""Continue a text with a trained model, piece by piece as it comes. Proof: tests/cli/test_generate.py."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.cli.device import Dtype, load_for_inference
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.cli.generated_json import print_sample_objects
from llm_scratch.cli.prompts import read_text_argument
from llm_scratch.cli.terminal import print_line
from llm_scratch.cli.token_printer import GenerationTimer, print_legend, print_samples, supports_color
from llm_scratch.errors import USAGE, UserError

MUCH = 1000  # tokens from which `model.packed.pack` is told so


@dataclass(frozen=True)
class Generate(ReportCommand, DecodingFlags):
    """Continue each PROMPT with the model in RUN.

    The text goes to stdout as it comes, speed and seed to stderr.

    Samples are written side by side; the first is shown as it comes.

    examples:
      llm-scratch generate quickstart "The story of Anna" --samples 3
      echo "ROMEO:" | llm-scratch generate runs/bard - --show-probs
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name, or a file or folder of weights (docs/weights.md)"""
    prompts: Positional[Annotated[tuple[str, ...], option("PROMPT")]] = ()
    """where to begin; "-" reads standard input; without one, the model begins by itself"""
    file: Annotated[str, option("FILE")] = ""
    """a prompt from a file, after those in words"""
    max_tokens: int = 200
    """how many to add at most; a model that ends its text stops sooner"""
    stop: Annotated[str, option("TEXT")] = ""
    """end where this text comes, and do not show it; \\n is a line break"""
    seed: Annotated[int | None, option("INT")] = None
    """the same seed, the same text; drawn by chance unless given"""
    samples: int = 1
    """continuations of each prompt"""
    context_overflow: Annotated[Literal["slide", "stop"] | None, option("slide|stop")] = None
    """when the context is full: let the oldest token leave (unless given; beam always stops), or stop"""
    show_probs: Flag = False
    """colour each token by the probability that the model gave it"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """bits of the weights while writing: auto takes what is fastest here, and says why"""
    compile: Flag = False
    """compile a token's step first: half a minute with g++, once for each shape of model; a token then takes less time"""

    def run(self) -> None:
        """Load once, then write every sample of every prompt."""
        if self.json and self.show_probs:
            raise UserError("--show-probs: has no effect with --json; leave out one of them", USAGE)
        self.check_decoder(self.samples, self.seed, self.context_overflow)
        where = resolve_model_path(self.run_)
        prompts = [read_text_argument(prompt) if prompt == "-" else prompt for prompt in self.prompts]
        prompts += [read_text_argument(self.file)] if self.file else []
        much = self.max_tokens * self.samples * len(prompts or [""]) >= MUCH
        alone = self.decoder == "sample" and self.samples == 1
        model, tokenizer, how = load_for_inference(where, self.device, self.dtype, much=much, compiled=self.compile, alone=alone)
        seed = secrets.randbelow(10**6) if self.seed is None else self.seed
        stop = [self.stop.replace("\\n", "\n")] if self.stop else []
        more: dict[str, Any] = {"max_new_tokens": self.max_tokens, "stop": stop}
        clock, drawn = GenerationTimer(), self.decoder not in ("beam", "contrastive")
        for number, prompt in enumerate(prompts or [""]):
            first = seed + number * self.samples
            rows = self.rows(
                model, tokenizer, prompt, first, self.samples, self.context_overflow, top=0 if self.show_probs else None, **more
            )
            clock.begin()
            if self.json:
                seeds = [first + sample if drawn else None for sample in range(self.samples)]
                print_sample_objects(rows, tokenizer, prompt, seeds, stop, self.max_tokens, clock)
            else:
                print_samples(rows, prompt, self.samples, clock, probs=self.show_probs, gap=number > 0)
        if self.quiet:
            return
        print_line("", stderr=True)
        if self.show_probs and supports_color():
            print_legend(stderr=True)
        print_line(f"[{clock.line()}{f', seed {seed}' if drawn else ''}]\n[{how}]", stderr=True)
