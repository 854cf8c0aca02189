"""The same prompt under every way of choosing a token, side by side. Proof: tests/cli/test_gallery.py. The ways: docs/decoding.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from tyro.conf import Positional, arg

from llm_scratch.cli.decoders import Decoders
from llm_scratch.cli.device import ready
from llm_scratch.cli.flags import Verb, option
from llm_scratch.cli.folders import check_can_write, resolve
from llm_scratch.cli.gallery_page import number, page
from llm_scratch.cli.memorise import run_of
from llm_scratch.cli.prompts import text_of
from llm_scratch.cli.terminal import console, print_line, printable, quoted, table
from llm_scratch.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from llm_scratch.evaluation.gallery import Scores
    from llm_scratch.evaluation.memorise import Index
    from llm_scratch.generation.pieces import Piece

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "pure sampling": {"temperature": 1.0},
    "temperature": {"temperature": 0.7},
    "top-k": {"temperature": 1.0, "top_k": 40},
    "top-p": {"temperature": 1.0, "top_p": 0.9},
    "min-p": {"temperature": 1.0, "min_p": 0.1},
    "typical": {"temperature": 1.0, "typical_p": 0.9},
    "eta": {"temperature": 1.0, "eta_cutoff": 3e-4},
    "mirostat": {"temperature": 1.0, "mirostat": 3.0},
    "repetition penalty": {"temperature": 0.0, "repetition_penalty": 1.2},
    "presence penalty": {"temperature": 0.0, "presence_penalty": 1.0},
    "frequency penalty": {"temperature": 0.0, "frequency_penalty": 1.0},
    "no repeated 3-gram": {"temperature": 0.0, "no_repeat_ngram_size": 3},
    "beam": {"decoder": "beam", "beams": 4},
    "contrastive": {"decoder": "contrastive", "candidates": 4, "alpha": 0.6},
    "lookup": {"decoder": "lookup", "temperature": 0.0},
}
"""name -> flags of `generate`; samplers are shown on the model's own probabilities (temperature 1), penalties on greedy (temperature 0)"""


@dataclass(frozen=True)
class Exhibit:
    """What one way wrote: its name and flags, its tokens, its numbers, and tokens per second; None for real text, which nobody timed."""

    name: str
    flags: str
    pieces: tuple[Piece, ...]
    scores: Scores
    speed: float | None

    @property
    def text(self) -> str:
        """The continuation, without the prompt."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Gallery(Verb):
    """Continue PROMPT in every way there is, and show the texts side by side.

    The ways that draw share a seed.

    Overlap: tokens in the longest run in common with the training text of RUN.

    examples:
      llm-scratch gallery quickstart "The story of Anna"
      llm-scratch gallery gpt2 "Every effort moves you" --out gpt2.html
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run, a preset (its newest run), gpt2, hf:org/name, or a file or folder of weights (docs/weights.md)"""
    prompt: Positional[Annotated[str, arg(metavar="PROMPT")]]
    """where to begin; "-" reads standard input"""
    tokens: int = 60
    """how many to add at most"""
    seed: int = 123
    """the same seed, the same texts"""
    draft: Annotated[str, option("RUN")] = ""
    """a smaller model of the same tokenizer: shows speculative decoding too"""
    out: Annotated[str, option("FILE")] = "gallery.html"
    """the page, a file that needs no other"""
    device: str = "auto"
    """auto, cpu, cuda, mps"""

    def run(self) -> None:
        """Write in every way, print the texts and a table, and write the page."""
        check_can_write(Path(self.out))
        where, screen = resolve(self.run_), console()
        prompt = text_of(self.prompt) if self.prompt == "-" else self.prompt
        from llm_scratch.evaluation.gallery import tree
        from llm_scratch.files import write_whole
        from llm_scratch.tokenizers.special import end_of_text

        model, tokenizer, how = ready(where, self.device, much=True)
        with screen.status("reading the training text …"):
            index, real = self._training_text(where, model, tokenizer)
        shown = []
        for exhibit in self.exhibits(model, tokenizer, prompt, index):
            shown.append(exhibit)
            screen.print(Text.assemble((exhibit.name, "bold"), f"  {exhibit.flags}"))
            screen.print(Text.assemble((printable(prompt), "bold"), printable(exhibit.text)), end="\n\n")
        shown += [] if real is None else [Exhibit("held-out text", "", (), real, None)]
        show_table(screen, shown)
        branches = tree(model, tokenizer, prompt, eot=end_of_text(tokenizer))
        write_whole(Path(self.out), page(str(where), prompt, shown, branches, tokenizer))
        screen.print(f"\n{self.out}", soft_wrap=True)
        print_line(f"[{how}]", stderr=True)

    def exhibits(self, model: Any, tokenizer: Any, prompt: str, index: Index | None) -> Iterator[Exhibit]:
        """What each way writes, one after the other, each timed from the prompt to its last token."""
        from llm_scratch.evaluation.gallery import score
        from llm_scratch.tokenizers.special import end_of_text

        ways = WAYS | ({"speculative": {"decoder": "speculative", "draft": self.draft, "temperature": 0.0}} if self.draft else {})
        eot = end_of_text(tokenizer)
        for turn, (name, settings) in enumerate([next(iter(ways.items())), *ways.items()]):
            began = time.perf_counter()
            try:
                rows = Decoders(**settings).rows(model, tokenizer, prompt, self.seed, 1, "slide", max_new_tokens=self.tokens, top=0)
                pieces = tuple(piece for _, piece in rows)
            except UserError as e:
                if turn == 0:  # greedy: no strategy can continue this prompt
                    raise
                print_line(f"{name}: not shown: {e}", stderr=True)
                continue
            seconds = time.perf_counter() - began
            said = [piece for piece in pieces if piece.id is not None]
            logprobs = [piece.logprob for piece in said if piece.logprob is not None]
            scores = score([piece.id for piece in said if piece.id not in (None, eot)], logprobs, index)
            if turn:  # the first is written twice, since a first call is slower
                yield Exhibit(name, flags(settings), pieces, scores, len(said) / seconds)

    def _training_text(self, where: Path, model: Any, tokenizer: Any) -> tuple[Index | None, Scores | None]:
        """The index of what the model learned from, and the numbers of held-out text; None where RUN does not say what it was."""
        from llm_scratch.cli.run_text import prepare_text_of
        from llm_scratch.evaluation.gallery import natural
        from llm_scratch.evaluation.memorise import Index

        run = run_of(where)
        if run is None:
            return None, None
        corpus = prepare_text_of(run, tokenizer)
        index = Index(corpus.train)
        try:
            return index, natural(model, corpus.val, index, self.tokens, seed=self.seed)
        except UserError as e:
            print_line(f"validation text: not shown: {e}", stderr=True)
            return index, None


def flags(settings: dict[str, Any]) -> str:
    """Settings as the words that `llm-scratch generate` takes: --temperature 1 --top-k 40."""
    words = [(f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)) for name, value in settings.items()]
    return quoted(*(word for pair in words for word in pair))


def show_table(screen: Console, shown: list[Exhibit]) -> None:
    """The numbers of every way, a line each."""
    grid = table("", "perplexity", "distinct-1", "-2", "-3", "overlap", "tokens/s")
    for exhibit in shown:
        scores = exhibit.scores
        spread = [number(share, 2) for share in scores.distinct]
        grid.add_row(exhibit.name, number(scores.perplexity, 2), *spread, number(scores.overlap, 0), number(exhibit.speed, 0))
    screen.print(grid)
