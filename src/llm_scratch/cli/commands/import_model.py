"""Bring a model of another program here. Proof: tests/cli/test_import_model.py."""

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
from llm_scratch.config import ModelConfig, RunConfig, dump_config, to_dict
from llm_scratch.errors import UserError
from llm_scratch.formatting import format_count, shell_command
from llm_scratch.presets import PRESETS, preset

if TYPE_CHECKING:
    from llm_scratch.loading import Loaded


PROMPT = "Every effort moves you"


@dataclass(frozen=True)
class Import(Command):
    """Make a run of a model that another program saved; nothing in a file is run.

    Reads the notebooks' .pth, nanoGPT, litgpt, transformers, OpenAI's GPT-2.

    The notebooks' optimizer comes too, and training goes on from there.

    examples:
      llm-scratch import model_and_optimizer.pth --out runs/mine
      llm-scratch import ckpt.pt --tokenizer chars:input.txt --out runs/nano
    """

    source: Positional[Annotated[str, arg(metavar="SOURCE")]]
    """a file or folder, gpt2, hf:org/name"""
    out: Annotated[str, option("FOLDER")]
    """the run directory to make"""
    tokenizer: Annotated[str, option("TOKENIZER")] = ""
    """gpt2, the folder of a tokenizer.json, or chars:FILE; unless given, the one that lies there, or GPT-2's"""
    heads: Annotated[int | None, option("INT")] = None
    """attention heads a layer of the notebooks' model, which its file does not say (default: GPT-2's, for a model of its size)"""
    drop_rate: Annotated[float | None, option("FLOAT")] = None
    """dropout of further training, which the notebooks' file does not say (default: 0.1)"""
    preset: Annotated[str, option("PRESET", help=f"settings to continue training with: {', '.join(PRESETS)}")] = "verdict"

    def run(self) -> None:
        """Read, write a run at step 0, say what to do with it."""
        folder, base, screen = Path(self.out), preset(self.preset), console()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"--out {folder} is there already; expected a new or empty folder")
        check_can_write(folder)
        from llm_scratch.loading import Options, read, tokenizer_named
        from llm_scratch.training.prompt import prompt_problem

        where = resolve_model_path(self.source)
        with screen.status("reading …"):
            loaded = read(where, Options(tokenizer_named(self.tokenizer) if self.tokenizer else None, self.heads, self.drop_rate))
        config = settings(loaded, base, str(where))
        save(loaded, config, folder)
        memory = ", with what its optimizer remembers" if loaded.optimizer else ""
        screen.print(f"{folder}: {format_count(config.model.n_params)} parameters from {where}{memory}", soft_wrap=keeps_lines(screen))
        if loaded.assumed:
            said = ", ".join(f"{name} {value}" for name, value in loaded.assumed.items())
            screen.print(
                f"not in the file, taken as in the notebooks: {said} (--drop-rate sets the dropout)", soft_wrap=keeps_lines(screen)
            )
        if self.quiet:
            return
        prompt = [] if prompt_problem(loaded.model, loaded.tokenizer, PROMPT) else [PROMPT]
        go_on = shell_command("train", "--config", folder / "config.yaml", "--out", folder)
        for what, words in (("next", shell_command("generate", folder, *prompt)), ("", go_on)):
            screen.print(f"{what:>8}  {words}", soft_wrap=True)


def settings(loaded: Loaded, base: RunConfig, source: str) -> RunConfig:
    """The settings of the run: the model's own, what its optimizer had, in float32 as it had it, and `base`'s for the rest."""
    machine = replace(base.machine, precision="float32") if loaded.train else base.machine
    cfg = ModelConfig.of(loaded.model.cfg)  # type: ignore[arg-type]
    data = replace(base.data, tokenizer=tokenizer_name(loaded.tokenizer))
    return replace(base, model=cfg, data=data, train=replace(base.train, **loaded.train), machine=machine, start=source)


def save(loaded: Loaded, config: RunConfig, folder: Path) -> None:
    """Write the run: its settings, and a checkpoint of step 0."""
    import torch

    from llm_scratch.storage import checkpoint
    from llm_scratch.storage.files import atomic_write
    from llm_scratch.tokenizers import save_tokenizer
    from llm_scratch.training.state import rng_state, unique_state_dict

    state = {
        "step": 0, "steps": 0, "tokens": 0, "best": math.inf, "last_eval": {},
        "made_from": config.start,
        "random": rng_state(), "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    weights = unique_state_dict(loaded.model)
    checkpoint.save(
        folder, 0, to_dict(config), weights, loaded.optimizer, state, lambda into: save_tokenizer(loaded.tokenizer, into), best=True
    )
    atomic_write(folder / "config.yaml", dump_config(config))
