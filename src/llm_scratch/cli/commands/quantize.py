"""`quantize`: store a model in 8 or 4 bits, and measure the change in bits per byte.

Tests: tests/cli/test_quantize.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from llm_scratch.cli.commands.evaluate import evaluate_with_stderr
from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines, table
from llm_scratch.config import DataConfig, RunConfig
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.formatting import format_bytes, shell_command
from llm_scratch.run_directory import RunInfo, find_run
from llm_scratch.storage.files import is_new_or_empty

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from torch import nn

    from llm_scratch.data.shards import Tokens
    from llm_scratch.model import LanguageModel
    from llm_scratch.tokenizers import Tokenizer

PROMPT = "Once upon a time"
MAX_EVAL_TOKENS = 200_000
"""Tokens of text that the loss is measured on, at most."""


@dataclass(frozen=True)
class Quantize(ReportCommand):
    """Quantize the model in RUN to 8 or 4 bits: smaller, and faster to generate with.

    The change in bits per byte is measured on validation text, or on --text.

    examples:
      llm-scratch quantize quickstart
      llm-scratch quantize gpt2 --bits 4 --text my-novel.txt --out gpt2-int4
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, a preset (its newest run), or any other model that `generate` accepts"""
    bits: Literal[8, 4] = 8
    """bits per weight: 8 with one scale per row, 4 with one scale per 32 weights"""
    out: Annotated[str, option("FOLDER")] = ""
    """a new folder (default: RUN-int8 or RUN-int4)"""
    text: Annotated[str, option("FILE")] = ""
    """a text file to measure the loss on"""

    def run(self) -> None:
        """Load, evaluate, quantize, evaluate, write."""
        where, screen = resolve_model_path(self.run_), console()
        out = self._output_folder(where)
        from llm_scratch.generation.dtype import bits_of
        from llm_scratch.loading import load
        from llm_scratch.model.kernel_choice import choose_kernel
        from llm_scratch.model.quantized import quantize
        from llm_scratch.training.initial_run import write_initial_run
        from llm_scratch.training.samples import prompt_problem

        model, tokenizer = load(where)
        if (bits := bits_of(model)) is not None:
            raise UserError(
                f"{where}: the model is already quantized to {bits} bits;"
                " use the run it was made from",
                CHECKPOINT,
            )
        run = find_run(where)
        with screen.status("reading the text …"):
            ids = self._text(run, tokenizer, model.start_id)[:MAX_EVAL_TOKENS]
        before = Measurement.of(model, tokenizer, ids, screen)
        try:
            quantize(model, self.bits)
        except ValueError as e:
            raise UserError(str(e)) from e
        after = Measurement.of(model, tokenizer, ids, screen)
        config = replace(
            run.config if run else RunConfig(data=DataConfig(source="")), model=model.cfg
        )
        state = {"quantized": self.bits, "made_from": str(where), "text": run.text if run else {}}
        write_initial_run(out, config, model, tokenizer, state)
        kernel = choose_kernel(self.bits, model.emb_dim)
        if self.json:
            fields = {
                "model": where,
                "out": out,
                "bits": self.bits,
                "bytes_before": before.n_bytes,
                "bytes": after.n_bytes,
                "bits_per_byte_before": before.bits_per_byte,
                "bits_per_byte": after.bits_per_byte,
                "kernel": str(kernel),
            }
            print_json(fields)
            return
        screen.print(comparison_table(before, after, self.bits))
        screen.print(f"speed on this machine: {kernel}")
        prompt = [] if prompt_problem(model, tokenizer, PROMPT) else [PROMPT]
        hint = "" if self.quiet else f"; next: {shell_command('generate', out, *prompt)}"
        screen.print(f"written: {out}{hint}", soft_wrap=keeps_lines(screen))

    def _output_folder(self, where: Path) -> Path:
        """The folder to write: --out, or one beside the run."""
        out = Path(self.out or f"{str(where).rstrip('/')}-int{self.bits}")
        if not is_new_or_empty(out):
            raise UserError(f"{out}: the folder exists and is not empty; choose another --out")
        check_can_write(out)
        return out

    def _text(self, run: RunInfo | None, tokenizer: Any, start_id: int | None) -> Tokens:
        """The token ids that the loss is measured on."""
        from llm_scratch.cli.run_text import prepare_text_of
        from llm_scratch.data.corpus import encode_documents
        from llm_scratch.data.sources import read

        if self.text:
            return encode_documents(read(f"file:{self.text}"), tokenizer, start_id)
        if run is None:
            raise UserError(f"{self.run_}: no validation text is recorded; add --text FILE", USAGE)
        return prepare_text_of(run, tokenizer).val


@dataclass(frozen=True)
class Measurement:
    """The size of a model's weights, and its loss on the text."""

    n_bytes: int
    bits_per_byte: float | None

    @classmethod
    def of(
        cls, model: LanguageModel, tokenizer: Tokenizer, ids: Tokens, screen: Console
    ) -> Measurement:
        """Measure a model; shows the progress."""
        loss, _ = evaluate_with_stderr(model, tokenizer, ids, screen)
        return cls(stored_bytes(model), loss.bits_per_byte)


def comparison_table(before: Measurement, after: Measurement, bits: int) -> Table:
    """Size and loss before and after."""
    grid = table("", "32 bits", f"{bits} bits", "change")
    sizes = [format_bytes(before.n_bytes), format_bytes(after.n_bytes)]
    grid.add_row("size", *sizes, f"{after.n_bytes / before.n_bytes - 1:+.0%}")
    if before.bits_per_byte and after.bits_per_byte:
        losses = [f"{before.bits_per_byte:.4f}", f"{after.bits_per_byte:.4f}"]
        change = after.bits_per_byte / before.bits_per_byte - 1
        grid.add_row("bits per byte", *losses, f"{change:+.2%}")
    return grid


def stored_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights in a file; shared weights count once."""
    return sum({t.data_ptr(): t.nbytes for t in model.state_dict().values()}.values())
