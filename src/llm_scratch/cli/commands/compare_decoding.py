"""`compare-decoding`: one prompt under every decoding method, in the terminal and as an HTML page.

Tests: tests/cli/test_compare_decoding.py. The strategies: docs/decoding.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from llm_scratch.cli.decoding_flags import DecodingFlags
from llm_scratch.cli.decoding_page import format_number, render_html
from llm_scratch.cli.decoding_sample import DecodingSample, repeated_texts
from llm_scratch.cli.device import load_model
from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.prompts import read_text_argument
from llm_scratch.cli.result_json import decoding_json
from llm_scratch.cli.terminal import console, print_error, print_note, table
from llm_scratch.errors import UserError
from llm_scratch.formatting import quote, sanitize, shell_command
from llm_scratch.run_directory import run_of

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.evaluation.decoding_metrics import TextMetrics
    from llm_scratch.evaluation.memorization import SuffixIndex
    from llm_scratch.generation.detokenizer import TextChunk

DECODING_PRESETS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "pure sampling": {"temperature": 1.0},
    "low temperature": {"temperature": 0.7},
    "high temperature": {"temperature": 1.5},
    "top-k": {"temperature": 1.5, "top_k": 10},
    "top-p": {"temperature": 1.5, "top_p": 0.7},
    "min-p": {"temperature": 1.5, "min_p": 0.1},
    "typical": {"temperature": 1.5, "typical_p": 0.7},
    "eta": {"temperature": 1.5, "eta_cutoff": 3e-3},
    "mirostat": {"temperature": 1.5, "mirostat": 3.0},
    "repetition penalty": {"temperature": 0.0, "repetition_penalty": 1.2},
    "presence penalty": {"temperature": 0.0, "presence_penalty": 1.0},
    "frequency penalty": {"temperature": 0.0, "frequency_penalty": 1.0},
    "no repeated 3-gram": {"temperature": 0.0, "no_repeat_ngram_size": 3},
    "beam": {"decoder": "beam", "beams": 4},
    "contrastive": {"decoder": "contrastive", "candidates": 4, "alpha": 0.6},
    "lookup": {"decoder": "lookup", "temperature": 0.0},
}
"""name -> flags of `generate`

Samplers that cut off the tail are shown at temperature 1.5: at 1 the distribution of a confident
model has almost no tail, and all texts would be equal. Penalties are shown on greedy decoding.
"""

ABOUT = {
    "greedy": "Always the most probable token: no randomness, and often repetition.",
    "pure sampling": "Each token is drawn with exactly the probability that the model gives it.",
    "low temperature": "Logits are divided by 0.7, which makes probable tokens more probable.",
    "high temperature": (
        "Logits are divided by 1.5, which makes improbable tokens more probable; the next six"
        " methods use this temperature too."
    ),
    "top-k": "Only the 10 most probable tokens may be drawn, however sure the model is.",
    "top-p": (
        "Only the most probable tokens that together have 70 % of the probability may be drawn."
    ),
    "min-p": "Only tokens at least a tenth as probable as the best one may be drawn.",
    "typical": (
        "Only tokens whose surprise is close to the expected surprise may be drawn, until they have"
        " 70 % of the probability."
    ),
    "eta": (
        "Tokens below a probability cutoff are dropped; the cutoff falls where the model is unsure."
    ),
    "mirostat": (
        "The set of tokens to draw from is adapted so that the surprise stays near 3 bits a token."
    ),
    "repetition penalty": "Greedy, with the logits of tokens that occurred already divided by 1.2.",
    "presence penalty": (
        "Greedy, with 1 subtracted once from the logit of each token that occurred already."
    ),
    "frequency penalty": (
        "Greedy, with 1 subtracted from the logit of a token for each time that it occurred."
    ),
    "no repeated 3-gram": "Greedy, but no three tokens in a row may occur twice.",
    "beam": (
        "Keeps the 4 most probable beginnings at each step and ends with the most probable text."
    ),
    "contrastive": "Of the 4 most probable tokens, the one that is most unlike the text so far.",
    "lookup": (
        "Greedy, with tokens guessed from earlier text and checked together: the same text in fewer"
        " steps."
    ),
    "speculative": (
        "Greedy, with tokens guessed by the draft model and checked together: the same text in"
        " fewer steps."
    ),
}
"""name -> what the method does, in a sentence"""

SAMPLES = 3


@dataclass(frozen=True)
class CompareDecoding(ReportCommand):
    """Continue PROMPT with every decoding method, and compare the texts.

    Methods that sample write several texts, all from the same seeds.

    Overlap: tokens in the longest run that also occurs in the training text.

    examples:
      llm-scratch compare-decoding quickstart "The story of Anna"
      llm-scratch compare-decoding gpt2 "Every effort moves you" --out gpt2.html
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name,
    or a checkpoint file or folder (docs/weights.md)
    """
    prompt: Positional[Annotated[str, arg(metavar="PROMPT")]]
    """the text to continue; "-" reads standard input"""
    max_tokens: int = 60
    """maximum number of new tokens of each text"""
    samples: int = SAMPLES
    """number of texts of each method that samples"""
    seed: int = 123
    """random seed of the first text of each method; each next text has the next seed"""
    draft: Annotated[str, option("RUN")] = ""
    """a smaller model with the same tokenizer; adds speculative decoding"""
    out: Annotated[str, option("FILE")] = "compare-decoding.html"
    """the HTML page to write"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Generate with every method, print texts and metrics, and write the page."""
        check_can_write(Path(self.out))
        path, screen = resolve_model_path(self.run_), console()
        prompt = read_text_argument(self.prompt) if self.prompt == "-" else self.prompt
        from llm_scratch.evaluation.decoding_metrics import next_token_tree
        from llm_scratch.storage.files import atomic_write
        from llm_scratch.tokenizers.special import end_of_text

        model, tokenizer, description = load_model(path, self.device, long_generation=True)
        with screen.status("reading the training text …"):
            index, real = self._training_text(path, model, tokenizer)
        shown = []
        for method in self.samples_of_methods(model, tokenizer, prompt, index):
            shown.append(method)
            if not self.json:
                show_texts(screen, prompt, shown)
        shown += [] if real is None else [DecodingSample("validation text", "", (), real, None)]
        branches = next_token_tree(model, tokenizer, prompt, eot=end_of_text(tokenizer))
        atomic_write(
            Path(self.out),
            render_html(
                self._facts(path, prompt), prompt, shown, repeated_texts(shown), branches, tokenizer
            ),
        )
        if self.json:
            print_json(decoding_json(path, prompt, self.out, description, shown))
            return
        show_table(screen, shown)
        screen.print(f"\n{self.out}", soft_wrap=True)
        print_note(f"[{description}]")

    def samples_of_methods(
        self, model: Any, tokenizer: Any, prompt: str, index: SuffixIndex | None
    ) -> Iterator[DecodingSample]:
        """The texts of each method, generated one after the other and timed to the last token."""
        from llm_scratch.evaluation.decoding_metrics import score_samples
        from llm_scratch.tokenizers.special import end_of_text

        methods = dict(DECODING_PRESETS)
        if self.draft:
            speculative = {"decoder": "speculative", "draft": self.draft, "temperature": 0.0}
            methods["speculative"] = speculative
        eot = end_of_text(tokenizer)
        for turn, (name, settings) in enumerate([next(iter(methods.items())), *methods.items()]):
            n = self.samples if is_random(settings) else 1
            began = time.perf_counter()
            pieces: list[list[TextChunk]] = [[] for _ in range(n)]
            rows = DecodingFlags(**settings).generate(
                model, tokenizer, prompt, self.seed, n, None, max_new_tokens=self.max_tokens, top=0
            )
            try:
                for row, piece in rows:
                    pieces[row].append(piece)
            except UserError as e:
                if turn == 0:  # greedy: no strategy can continue this prompt
                    raise
                print_error(f"warning: {name}: left out: {e}")
                continue
            seconds = time.perf_counter() - began
            ids = [[piece.id for piece in text if piece.id not in (None, eot)] for text in pieces]
            logprobs = [
                [
                    piece.logprob
                    for piece in text
                    if piece.id is not None and piece.logprob is not None
                ]
                for text in pieces
            ]
            n_tokens = sum(piece.id is not None for text in pieces for piece in text)
            if turn:  # the first method runs twice: the first call is slower and is not reported
                scores = score_samples(ids, logprobs, index)
                yield DecodingSample(
                    name,
                    flags(settings),
                    tuple(map(tuple, pieces)),
                    scores,
                    n_tokens / seconds,
                    ABOUT[name],
                )

    def _training_text(
        self, path: Path, model: Any, tokenizer: Any
    ) -> tuple[SuffixIndex | None, TextMetrics | None]:
        """The index of the training text, and the metrics of validation text, where recorded."""
        from llm_scratch.cli.run_text import prepare_text_of
        from llm_scratch.evaluation.decoding_metrics import reference_metrics
        from llm_scratch.evaluation.memorization import SuffixIndex

        run = run_of(path)
        if run is None:
            return None, None
        corpus = prepare_text_of(run, tokenizer)
        index = SuffixIndex(corpus.train)
        try:
            return index, reference_metrics(
                model, corpus.val, index, self.max_tokens, seed=self.seed
            )
        except UserError as e:
            print_error(f"warning: validation text: left out: {e}")
            return index, None

    def _facts(self, path: Path, prompt: str) -> dict[str, str]:
        """The facts on the page: model, step, seed, date, and the command that writes it again."""
        run = run_of(path)
        facts = {"model": str(path)}
        if run is not None:
            facts["step"] = run.description or f"{run.step:,}" + (
                f" of {run.steps:,}" if run.steps else ""
            )
        words: list[str] = [
            "compare-decoding",
            str(path),
            prompt,
            "--max-tokens",
            str(self.max_tokens),
            "--samples",
            str(self.samples),
        ]
        words += [
            "--seed",
            str(self.seed),
            *(["--draft", self.draft] if self.draft else []),
            "--out",
            self.out,
        ]
        if self.samples == 1:
            seeds = f"{self.seed}"
        else:
            seeds = f"{self.seed} to {self.seed + self.samples - 1}, one for each text"
        return facts | {
            "seed": seeds,
            "tokens": f"{self.max_tokens} at most",
            "date": date.today().isoformat(),
            "command": shell_command(*words),
        }


def is_random(settings: dict[str, Any]) -> bool:
    """Whether a method samples, so that another seed gives another text."""
    return (
        settings.get("decoder", "sample") in ("sample", "speculative", "lookup")
        and settings.get("temperature") != 0
    )


def show_texts(screen: Console, prompt: str, shown: list[DecodingSample]) -> None:
    """Print the texts of the last method; a text that was printed before is only named."""
    from rich.text import Text

    method, repeated = shown[-1], repeated_texts(shown)
    screen.print(Text.assemble((method.name, "bold"), f"  {method.flags}"))
    for sample, text in enumerate(method.texts):
        before = repeated.get((len(shown) - 1, sample))
        if before is None:
            screen.print(Text.assemble((sanitize(prompt), "bold"), sanitize(text)))
        else:
            screen.print(Text(f"(the text of {before})"))
    screen.print()


def flags(settings: dict[str, Any]) -> str:
    """Settings as flags of `llm-scratch generate`: --temperature 1 --top-k 40."""
    words = [
        (f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in settings.items()
    ]
    return quote(*(word for pair in words for word in pair))


def show_table(screen: Console, shown: list[DecodingSample]) -> None:
    """Print the metrics of every method as a table."""
    grid = table("", "perplexity", "distinct-1", "-2", "-3", "overlap", "tokens/s")
    for method in shown:
        scores = method.scores
        spread = [format_number(share, 2) for share in scores.distinct]
        grid.add_row(
            method.name,
            format_number(scores.perplexity, 2),
            *spread,
            format_number(scores.overlap, 0),
            format_number(method.speed, 0),
        )
    screen.print(grid)
