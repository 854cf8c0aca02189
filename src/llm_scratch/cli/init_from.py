"""Initialize training from a model (`--from gpt2`), a run or a checkpoint (`--resume PATH`).

Tests: tests/cli/test_init_from.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.cli.folders import resolve_model_path
from llm_scratch.config import RunConfig, without_epochs
from llm_scratch.errors import CHECKPOINT, USAGE, UserError
from llm_scratch.run_directory import find_run
from llm_scratch.storage.files import atomic_folder, is_new_or_empty
from llm_scratch.storage.user_folders import expand_user

if TYPE_CHECKING:
    from llm_scratch.model import LanguageModel
    from llm_scratch.tokenizers import Tokenizer

GPT2_TEXT, GPT2_IDS = "Every effort moves you", [6109, 3626, 6100, 345]
"""A text and its ids in GPT-2's vocabulary; other vocabularies have the same size."""


def config_from_model(name: str, base: RunConfig, set_flags: Mapping[str, str]) -> RunConfig:
    """The settings of a run that starts from a model: `base`, with the model's shape and tokenizer.

    Args:
        set_flags: the flags of the command line.
    Raises:
        UserError: there is no such model, or a flag contradicts it.
    """
    if "--data.tokenizer" in set_flags:
        raise UserError(
            "--data.tokenizer cannot be combined with --from: the model brings its own tokenizer;"
            " leave it out"
        )
    from llm_scratch.loading import load

    where = resolve_model_path(name)
    if (run := find_run(where)) is not None:
        run.check_trainable()
    heads = set_flags.get("--model.n-heads", "")
    model, tokenizer = load(
        where, n_heads=int(heads) if heads.isdigit() and where.is_file() else None
    )
    return replace(
        base,
        model=model.cfg,
        data=replace(base.data, tokenizer=tokenizer_name(tokenizer)),
        init_from=str(where),
    )


def with_architecture(base: RunConfig, set_flags: Mapping[str, str]) -> RunConfig:
    """Settings of the architecture that `--model.architecture` names.

    Settings that both architectures have with the same meaning are kept.
    """
    name = set_flags.get("--model.architecture")
    return base if name is None else base.with_model(architecture=name)


def with_length(base: RunConfig, set_flags: Mapping[str, str]) -> RunConfig:
    """Settings without epochs where a flag gives the steps of a new run."""
    if "--train.steps" not in set_flags or "--train.epochs" in set_flags:
        return base
    return without_epochs(base, {"train": {"steps": set_flags["--train.steps"]}})


def with_tokenizer(base: RunConfig, set_flags: Mapping[str, str]) -> RunConfig:
    """Settings with the vocabulary of a ready-made tokenizer.

    It is gpt2, or the file, folder or run that `--data.tokenizer` names.

    Args:
        set_flags: the flags of the command line; a `--model.vocab-size` among them stays.
    """
    if "--data.tokenizer" not in set_flags or "--model.vocab-size" in set_flags:
        return base
    from llm_scratch.tokenizers import TOKENIZERS
    from llm_scratch.tokenizers.gpt2 import N_VOCAB
    from llm_scratch.tokenizers.locate import open_tokenizer

    name = set_flags["--data.tokenizer"]
    if name == "gpt2":
        return base.with_model(vocab_size=N_VOCAB)
    if name in TOKENIZERS or not expand_user(name).exists():
        return base  # learned from the text, or unknown, which `validate` reports
    return base.with_model(vocab_size=open_tokenizer(name).n_vocab)


def load_initial_model(config: RunConfig, folder: Path) -> tuple[LanguageModel | None, Tokenizer]:
    """The initial model of a run and its tokenizer.

    For a run with a checkpoint, None and the tokenizer of the checkpoint.

    Raises:
        UserError: the model cannot be loaded, does not match the settings,
            or has another tokenizer than the shards.
    """
    from llm_scratch.loading import load, load_for_training

    if any((folder / "ckpt").glob("step-*/manifest.json")):
        return None, load(folder)[1]
    model, tokenizer = load_for_training(config.init_from, config.model)
    if config.data.source.startswith("shards:"):
        from llm_scratch.interop.hf_export import sample_texts
        from llm_scratch.tokenizers import load_tokenizer

        of_shards = load_tokenizer(expand_user(config.data.source.partition(":")[2]))
        texts = sample_texts(tokenizer, 20)
        if any(
            of_shards.encode(text, disallowed_special=())
            != tokenizer.encode(text, disallowed_special=())
            for text in texts
        ):
            raise UserError(
                f"{config.data.source}: the shards have another tokenizer than {config.init_from};"
                " prepare them with that tokenizer"
            )
    return model, tokenizer


def run_directory_of(path: Path) -> Path:
    """The run directory of `--resume PATH`, which is a run or one of its checkpoints.

    Raises:
        UserError: PATH is neither (code 4).
    """
    if (path / "manifest.json").is_file() and path.parent.name == "ckpt":
        run = path.parent.parent
    else:
        run = path
    if not (run / "ckpt").is_dir():
        raise UserError(
            f"--resume {path}: not a run directory or checkpoint;"
            " use a path such as runs/x or runs/x/ckpt/step-00000100",
            CHECKPOINT,
        )
    return run


def fork_run(path: Path, out: str) -> Path:
    """The run directory in which `--resume PATH` continues.

    A run continues in its own folder. A checkpoint,
    or a run with another --out, continues in a copy.

    Args:
        path: a run or one of its checkpoints.
        out: the new run directory; "" for none.
    Raises:
        UserError: --out is missing or in use, or the checkpoint is damaged.
    """
    from llm_scratch.storage.checkpoint import load_latest
    from llm_scratch.storage.manifest import verify

    run, folder = run_directory_of(path), Path(out)
    if path == run and (not out or folder.resolve() == run.resolve()):
        return run
    if not out or not is_new_or_empty(folder):
        raise UserError(
            f"--resume {path}: a new run is needed, since {run} stays unchanged;"
            " --out must name a new or empty folder",
            USAGE,
        )
    if path == run:
        latest = load_latest(run, lambda message: None, prefer="latest")
        if latest is None:
            raise UserError(
                f"--resume {path}: no checkpoint yet; start it again without --resume", CHECKPOINT
            )
        path = latest.folder
    if (problem := verify(path)) is not None:
        raise UserError(
            f"--resume {path}: damaged checkpoint ({problem}); use another one", CHECKPOINT
        )
    with atomic_folder(folder) as part:
        shutil.copytree(path, part / "ckpt" / path.name)
        # training removes entries of later steps
        for name in ("config.yaml", "metrics.jsonl", "samples.md"):
            if (run / name).is_file():
                shutil.copy(run / name, part)
    return folder


def tokenizer_name(tokenizer: Tokenizer) -> str:
    """The name of a tokenizer for `--data.tokenizer`."""
    from llm_scratch.tokenizers import CharTokenizer, SimpleTokenizerV1
    from llm_scratch.tokenizers.gpt2 import N_VOCAB

    if isinstance(tokenizer, CharTokenizer | SimpleTokenizerV1):
        return "chars" if isinstance(tokenizer, CharTokenizer) else "words"
    is_gpt2 = tokenizer.n_vocab == N_VOCAB and tokenizer.encode(GPT2_TEXT) == GPT2_IDS
    return "gpt2" if is_gpt2 else "bpe"
