"""`export hf` and `export gguf`: write a model for Hugging Face transformers, or for llama.cpp.

Tests: tests/cli/test_export.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import ReportCommand, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.output import print_json
from llm_scratch.cli.terminal import console, keeps_lines
from llm_scratch.extras import install_command
from llm_scratch.formatting import format_bytes, format_count


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
                f" {checked.difference:.1g} of the largest, ids of {checked.texts:,} texts are"
                " equal, and so is a continued prompt",
                soft_wrap=keeps_lines(screen),
            )


@dataclass(frozen=True)
class ExportGGUF(ReportCommand):
    """Export the model in RUN as a GGUF file for llama.cpp and ollama.

    The file is read back and compared. Its Modelfile is for `ollama create`.

    examples:
      llm-scratch export gguf quickstart my-model.gguf
      llm-scratch export gguf gpt2 gpt2-q4.gguf --type q4_0
    """

    run_: Positional[Annotated[str, arg(name="run", metavar="RUN")]]
    """a run directory, a preset (its newest run), or any other model that `generate` accepts"""
    file: Positional[Annotated[str, option("FILE")]]
    """a new file"""
    type: Literal["f32", "f16", "q8_0", "q4_0"] = "f16"
    """number format of the matrices; q8_0 and q4_0 share a scale among 32 weights"""

    def run(self) -> None:
        """Load, export, compare, print the result."""
        where, path, screen = resolve_model_path(self.run_), Path(self.file), console()
        check_can_write(path, "FILE")
        from llm_scratch.generation.cached_model import check_model
        from llm_scratch.interop.gguf_export import export_gguf
        from llm_scratch.loading import load

        model, tokenizer = load(where)
        check_model(model)
        with screen.status("exporting and reading back …"):
            checked = export_gguf(model, tokenizer, path, self.type)
        size = path.stat().st_size
        if self.json:
            fields = {
                "model": where,
                "file": path,
                "modelfile": path.with_suffix(".Modelfile"),
                "type": self.type,
                "bytes": size,
            }
            print_json(fields | checked._asdict())
            return
        for line in (
            f"{path}: {self.type}, {format_bytes(size)}, for llama.cpp; for ollama:",
            f"  ollama create {path.stem} -f {path.with_suffix('.Modelfile')}",
            f"read back: weights within {checked.weight_error:.1g} of the largest of their block,"
            f" logits within {checked.logits_difference:.1g} of the largest; ids of"
            f" {checked.equal_texts:,} texts are equal",
        ):
            screen.print(line, soft_wrap=keeps_lines(screen), markup=False)
