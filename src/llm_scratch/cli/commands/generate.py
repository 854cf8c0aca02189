"""`generate`: continue a text with a trained model and stream the result.

Tests: tests/cli/test_generate.py.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.cli.device import Dtype, load_model
from llm_scratch.cli.flags import Flag, ReportCommand, option
from llm_scratch.errors import USAGE, UserError

if TYPE_CHECKING:
    from llm_scratch.cli.token_printer import GenerationTimer

LONG_GENERATION_TOKENS = 1000
"""Total tokens from which packing the model is worthwhile (`model.packed.pack`)."""


@dataclass(frozen=True)
class Generate(ReportCommand, DecodingFlags):
    """Continue each PROMPT with the model in RUN.

    The text is streamed to stdout; speed and seed go to stderr.

    Samples are generated as one batch; the first one is streamed.

    examples:
      llm-scratch generate quickstart "The story of Anna" --samples 3
      echo "ROMEO:" | llm-scratch generate runs/bard - --show-probs
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    prompts: Positional[Annotated[tuple[str, ...], option("PROMPT")]] = ()
    """the text to continue; "-" reads standard input (default: none, an unconditional sample)"""
    file: Annotated[str, option("FILE")] = ""
    """read one more prompt from a file"""
    max_tokens: int = 200
    """maximum number of new tokens; an end-of-text token stops sooner"""
    stop: Annotated[str, option("TEXT")] = ""
    """stop at this text and leave it out; \\n is a line break"""
    seed: Annotated[int | None, option("INT")] = None
    """random seed (default: a new one, printed)"""
    samples: int = 1
    """number of continuations of each prompt"""
    context_overflow: Annotated[Literal["slide", "stop"] | None, option("slide|stop")] = None
    """when the context is full: slide drops the oldest token,
    stop ends the text (default: slide; beam: stop)
    """
    show_probs: Flag = False
    """color each token by its probability under the model"""
    parts: Annotated[str, option("FILE")] = ""
    """use your own parts, such as temperature or top_k (docs/course_own_parts.md)"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""
    dtype: Dtype = "auto"
    """precision of the weights: auto measures which is fastest here, and prints it"""
    compile: Flag = False
    """compile the single-token step for faster generation;
    takes 0.5 to 3 minutes with g++, once per model shape
    """

    def run(self) -> None:
        """Load the model once, then generate every sample of every prompt."""
        from llm_scratch.cli.own_parts import parts_to_load

        with parts_to_load(self.parts):
            self._generate()

    def _generate(self) -> None:
        from llm_scratch.cli.folders import resolve_model_path
        from llm_scratch.cli.generated_json import print_sample_objects
        from llm_scratch.cli.token_printer import GenerationTimer, print_samples

        if self.json and self.show_probs:
            raise UserError("--show-probs: has no effect with --json; leave out one of them", USAGE)
        path = resolve_model_path(self.run_)
        self.validate(self.samples, self.seed, self.context_overflow)
        prompts = self._read_prompts()
        model, tokenizer, description = load_model(
            path,
            self.device,
            self.dtype,
            long_generation=self.max_tokens * self.samples * len(prompts) >= LONG_GENERATION_TOKENS,
            compile=self.compile,
            single_sequence=self.decoder == "sample" and self.samples == 1,
        )
        seed = secrets.randbelow(10**6) if self.seed is None else self.seed
        stop = [self.stop.replace("\\n", "\n")] if self.stop else []
        streaming: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "stop": stop,
            "top": 0 if self.show_probs else None,
        }
        timer = GenerationTimer()
        for number, prompt in enumerate(prompts):
            first_seed = seed + number * self.samples
            stream = self.generate(
                model,
                tokenizer,
                prompt,
                first_seed,
                self.samples,
                self.context_overflow,
                **streaming,
            )
            timer.start()
            if self.json:
                seeds = [
                    first_seed + sample if self.is_random() else None
                    for sample in range(self.samples)
                ]
                print_sample_objects(stream, prompt, seeds, timer)
            else:
                print_samples(
                    stream, prompt, self.samples, timer, probs=self.show_probs, gap=number > 0
                )
        if not self.quiet:
            self._print_notes(timer, seed, description)

    def _read_prompts(self) -> list[str]:
        """The texts to continue; an empty one if there is none."""
        from llm_scratch.cli.prompts import read_text_argument

        prompts = [
            read_text_argument(prompt) if prompt == "-" else prompt for prompt in self.prompts
        ]
        prompts += [read_text_argument(self.file)] if self.file else []
        return prompts or [""]

    def _print_notes(self, timer: GenerationTimer, seed: int, description: str) -> None:
        """Print the legend of the colors, the speed, the seed and the model on stderr."""
        from llm_scratch.cli.terminal import print_line
        from llm_scratch.cli.token_printer import print_legend, supports_color

        print_line("", stderr=True)
        if self.show_probs and supports_color():
            print_legend(stderr=True)
        seed_note = f", seed {seed}" if self.is_random() else ""
        print_line(f"[{timer.summary()}{seed_note}]\n[{description}]", stderr=True)
