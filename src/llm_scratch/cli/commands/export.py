"""`export hf`: write a model in the format of Hugging Face transformers.

Tests: tests/cli/test_export.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines
from llm_scratch.extras import install_command
from llm_scratch.formatting import format_count


@dataclass(frozen=True)
class ExportHF(ReportCommand):
    """Export the model in RUN as a folder for Hugging Face transformers.

    If transformers is installed, its logits are compared with ours.

    examples:
      llm-scratch export hf quickstart my-model
      llm-scratch export hf runs/bard bard-for-transformers
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, a preset (its newest run), or any other model that `generate` accepts"""
    folder: Positional[Annotated[str, option("FOLDER")]]
    """a new or empty folder"""

    def run(self) -> None:
        """Load, export, compare, print the result."""
        where, screen = resolve_model_path(self.run_), console()
        check_can_write(Path(self.folder), "FOLDER")
        from llm_scratch.generation.cached_model import check_model
        from llm_scratch.interop.hf_export import export_hf
        from llm_scratch.loading import load

        model, tokenizer = load(where)
        check_model(model)
        with screen.status("exporting and comparing with transformers …"):
            checked = export_hf(model, tokenizer, self.folder)
        n_params = sum(parameter.numel() for parameter in model.parameters())
        if self.json:
            difference, texts = (None, None) if checked is None else checked
            fields = {
                "model": where,
                "folder": self.folder,
                "parameters": n_params,
                "compared": checked is not None,
            }
            print_json(fields | {"logits_difference": difference, "equal_texts": texts})
            return
        size = format_count(n_params)
        screen.print(
            f"{self.folder}: {size} parameters,"
            " for AutoModelForCausalLM and AutoTokenizer.from_pretrained",
            soft_wrap=keeps_lines(screen),
        )
        if checked is None:
            screen.print(
                f"not compared: transformers is not installed ({install_command('hf')})",
                soft_wrap=keeps_lines(screen),
                markup=False,
            )
        else:
            screen.print(
                "transformers reads the same model: logits differ by at most"
                f" {checked.difference:.0e} of the largest, ids of {checked.texts:,} texts are"
                " equal, and so is a continued prompt",
                soft_wrap=keeps_lines(screen),
            )
