"""Training that begins with a model that is there already: `train PRESET --from gpt2`, and what `import` brought.

Proof: tests/cli/test_beginning.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_scratch.cli.folders import resolve
from llm_scratch.config import ModelConfig, RunConfig
from llm_scratch.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from llm_scratch.tokenizers import Tokenizer


def begin_from(name: str, base: RunConfig, given: Mapping[str, str]) -> RunConfig:
    """The settings of a run that begins with a model: `base`, with the model's shape and tokenizer.

    Args:
        given: the flags of the command line.
    Raises:
        UserError: there is no such model, or a flag that it answers already is given.
    """
    if "--data.tokenizer" in given:
        raise UserError("--data.tokenizer and --from are two tokenizers: a model goes on with the one that it learned with; leave it out")
    from llm_scratch.loading import load

    where = resolve(name)
    model, tokenizer = load(where)
    cfg = ModelConfig.of(model.cfg)  # type: ignore[arg-type]
    return replace(base, model=cfg, data=replace(base.data, tokenizer=kind_of(tokenizer)), start=str(where))


def beginning(config: RunConfig, folder: Path) -> tuple[nn.Module | None, Tokenizer]:
    """The model that a run begins with, and its tokenizer; of a run that is under way, only the tokenizer, from its own checkpoint.

    Raises:
        UserError: the model cannot be had, is not of the run's settings, or its tokenizer is not the text's.
    """
    from llm_scratch.loading import begin_with, load

    if any((folder / "ckpt").glob("step-*/manifest.json")):
        return None, load(folder)[1]
    model, tokenizer = begin_with(config.start, config.model)
    if config.data.source.startswith("shards:"):
        from llm_scratch.interop.hf_export import sample_texts
        from llm_scratch.tokenizers import load_tokenizer

        there = load_tokenizer(Path(config.data.source.partition(":")[2]).expanduser())
        texts = sample_texts(tokenizer, 20)
        if any(there.encode(text, disallowed_special=()) != tokenizer.encode(text, disallowed_special=()) for text in texts):
            raise UserError(f"{config.data.source} was made with another tokenizer than that of {config.start}; prepare it with that one")
    return model, tokenizer


def kind_of(tokenizer: Tokenizer) -> str:
    """What `--data.tokenizer` would call a tokenizer."""
    from llm_scratch.tokenizers import CharTokenizer, SimpleTokenizerV1
    from llm_scratch.tokenizers.gpt2 import N_VOCAB

    if isinstance(tokenizer, CharTokenizer | SimpleTokenizerV1):
        return "chars" if isinstance(tokenizer, CharTokenizer) else "words"
    return "gpt2" if tokenizer.n_vocab == N_VOCAB else "bpe"
