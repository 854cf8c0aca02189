"""`import`: make a run directory from a checkpoint of another program.

Tests: tests/cli/test_import_model.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from llm_scratch.cli.flags import Command, option
from llm_scratch.cli.folders import check_can_write, resolve_model_path
from llm_scratch.cli.init_from import tokenizer_name
from llm_scratch.cli.terminal import console, keeps_lines
from llm_scratch.config import RunConfig
from llm_scratch.errors import UserError
from llm_scratch.formatting import format_count, shell_command
from llm_scratch.presets import PRESETS, preset
from llm_scratch.storage.files import is_new_or_empty

if TYPE_CHECKING:
    from llm_scratch.loading import Loaded
    from llm_scratch.tokenizers import Tokenizer

PROMPT = "Every effort moves you"


@dataclass(frozen=True)
class Import(Command):
    """Make a run from a checkpoint of another program, without executing code in it.

    Reads the notebooks' .pth, nanoGPT, litgpt, transformers, OpenAI's GPT-2.

    The notebooks' optimizer state is imported too, so training can resume.

    examples:
      llm-scratch import model_and_optimizer.pth --out runs/mine
      llm-scratch import ckpt.pt --tokenizer chars:input.txt --out runs/nano
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a checkpoint file or folder, gpt2, or hf:org/name"""
    out: Annotated[str, option("FOLDER")]
    """the new run directory"""
    tokenizer: Annotated[str, option("TOKENIZER")] = ""
    """gpt2, a tokenizer.json, its folder, a run, or
    chars:FILE, which is then also the training text
    (default: the one beside the checkpoint, else gpt2)
    """
    heads: Annotated[int | None, option("INT")] = None
    """attention heads per layer, which the notebooks' .pth
    does not store (default: GPT-2's for the same width)
    """
    drop_rate: Annotated[float | None, option("FLOAT")] = None
    """dropout of further training, which the notebooks'
    .pth does not store (default: 0.1)
    """
    preset: Annotated[
        str,
        option(
            "PRESET",
            help=f"settings to continue training with: {', '.join(PRESETS)}"
            " (default: verdict; with chars:FILE shakespeare)",
        ),
    ] = ""

    def run(self) -> None:
        """Read the checkpoint, write a run at step 0, print the next commands."""
        text = text_of(self.tokenizer)
        base = preset(self.preset or ("shakespeare" if text else "verdict"))
        folder, screen = Path(self.out), console()
        if not is_new_or_empty(folder):
            raise UserError(
                f"--out {folder}: the folder exists and is not empty; choose a new or empty folder"
            )
        check_can_write(folder)
        from llm_scratch.loading import Options, read
        from llm_scratch.training.samples import prompt_problem

        where = resolve_model_path(self.source)
        with screen.status("reading …"):
            tokenizer = tokenizer_named(self.tokenizer) if self.tokenizer else None
            loaded = read(where, Options(tokenizer, self.heads, self.drop_rate))
            compared = compare_with_transformers(loaded)
        config = settings(loaded, base, str(where), text)
        save(loaded, config, folder)
        memory = ", with optimizer state" if loaded.optimizer else ""
        screen.print(
            f"{folder}: {format_count(config.model.n_params)} parameters from {where}{memory}",
            soft_wrap=keeps_lines(screen),
        )
        if compared is not None:
            screen.print(
                "transformers computes the same:"
                f" logits differ by at most {compared:.1g} of the largest",
                soft_wrap=keeps_lines(screen),
            )
        if loaded.assumed:
            assumed = ", ".join(f"{name} {value}" for name, value in loaded.assumed.items())
            screen.print(
                "not in the file, assumed as in the notebooks:"
                f" {assumed} (--drop-rate sets the dropout)",
                soft_wrap=keeps_lines(screen),
            )
        if self.quiet:
            return
        prompt = [] if prompt_problem(loaded.model, loaded.tokenizer, PROMPT) else [PROMPT]
        resume = shell_command("train", "--config", folder / "config.yaml", "--out", folder)
        for label, words in (("next", shell_command("generate", folder, *prompt)), ("", resume)):
            screen.print(f"{label:>8}  {words}", soft_wrap=True)


def compare_with_transformers(loaded: Loaded) -> float | None:
    """The largest difference to the logits of transformers; None if it cannot be compared.

    It needs a model from a folder of transformers, and transformers itself.

    Raises:
        UserError: they differ; names the first part that does (code 4).
    """
    from llm_scratch.interop.hf_compare import check_logits, read_theirs

    theirs = None if loaded.hf_folder is None else read_theirs(loaded.hf_folder)
    return None if theirs is None else check_logits(loaded.model, theirs)


def tokenizer_named(name: str) -> Tokenizer:
    """The tokenizer for a value of --tokenizer.

    Args:
        name: as in `tokenizer show`, or `chars:FILE` (the characters of a text, as in nanoGPT).
    Raises:
        UserError: there is none.
    """
    from llm_scratch.cli.commands.tokenizer import resolve_tokenizer
    from llm_scratch.data.sources import read as read_source
    from llm_scratch.tokenizers import CharTokenizer

    if text := text_of(name):
        return CharTokenizer.train(read_source(text), end_of_text=False)
    return resolve_tokenizer(name)


def text_of(name: str) -> str:
    """The training text that a value of --tokenizer names, as a source; "" if it names none."""
    kind, _, file = name.partition(":")
    return f"file:{file}" if kind == "chars" and file else ""


def settings(loaded: Loaded, base: RunConfig, origin: str, text: str = "") -> RunConfig:
    """The settings of the run: the model's and its optimizer's, in float32; `base` for the rest.

    Args:
        loaded: the model.
        base: the settings of a preset.
        origin: where the model is from.
        text: the source of its training text (default: that of `base`).
    """
    system = replace(base.system, precision="float32") if loaded.train else base.system
    source = text or base.data.source
    data = replace(base.data, source=source, tokenizer=tokenizer_name(loaded.tokenizer))
    return replace(
        base,
        model=loaded.model.cfg,
        data=data,
        train=replace(base.train, **loaded.train),
        system=system,
        init_from=origin,
    )


def save(loaded: Loaded, config: RunConfig, folder: Path) -> None:
    """Write the run: its settings, and a checkpoint of step 0."""
    import torch

    from llm_scratch.training.initial_run import write_initial_run
    from llm_scratch.training.state import rng_state

    state = {
        "best": math.inf,
        "last_eval": {},
        "made_from": config.init_from,
        "random": rng_state(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_initial_run(folder, config, loaded.model, loaded.tokenizer, state, loaded.optimizer)
