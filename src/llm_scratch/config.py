"""Configuration of a run: model, data, training, system; frozen, validated, as JSON or YAML.

The command line, the YAML file and the JSON in every checkpoint are all made from these classes, so
a setting has one name everywhere. The settings of a model are those of its architecture
(`llm_scratch.architectures`).
Tests: tests/test_config.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from llm_scratch.architectures import GPTConfig, ModelConfig, NanoChatConfig
from llm_scratch.config_dicts import from_dict, to_dict
from llm_scratch.errors import USAGE, UserError
from llm_scratch.ranges import check_fields
from llm_scratch.storage.older_formats import upgrade_settings
from llm_scratch.storage.safe_parse import parse_yaml_value, read_yaml

__all__ = [
    "DataConfig",
    "GPTConfig",
    "ModelConfig",
    "NanoChatConfig",
    "OBSERVATION_SETTINGS",
    "RunConfig",
    "SystemConfig",
    "TrainConfig",
    "config_hash",
    "dump_config",
    "from_dict",
    "load_config",
    "resume_relevant",
    "to_dict",
]


@dataclass(frozen=True)
class DataConfig:
    """The text of a run, its tokenizer and how it becomes batches."""

    source: str = "stories"
    """a name in `llm_scratch.data.sources.SOURCES`, with its argument:
    verdict, stories:20000, file:books/*.txt, shards:FOLDER
    """
    tokenizer: str = "bpe"
    """a name in `llm_scratch.tokenizers.TOKENIZERS` (bpe is trained to model.vocab_size tokens),
    a tokenizer.json, its folder, or a run
    """
    tokenizer_sample: int | None = None
    """characters of the training text to train bpe on, spread over it; None: all"""
    val_fraction: float = 0.1
    """share of the text for validation"""
    split: Literal["tokens", "characters", "documents"] = "tokens"
    """validation split: "tokens" and "characters" (the notebooks) take the end of the text,
    "documents" evenly spaced documents
    """
    order: Literal["shuffled", "documents", "notebook"] = "shuffled"
    """rows: "shuffled" windows at a new offset each epoch,
    "documents" one document per row, "notebook" the notebooks' loader
    """

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def is_stories(self) -> bool:
        """Whether the text is made of stories of the grammar, whose entropy is known."""
        return self.source.partition(":")[0] == "stories"


@dataclass(frozen=True)
class TrainConfig:
    """Optimizer, learning-rate schedule and intervals of the training."""

    steps: int = 1000
    """number of optimizer steps, if `epochs` is None; setting it replaces the epochs of a preset"""
    epochs: int | None = None
    """passes over the training data; None: train for `steps`"""
    batch_size: int = 16
    """rows of context_length tokens per optimizer step"""
    micro_batches: int = 1
    """gradient accumulation: parts of a batch, to fit the memory; the result is the same"""
    optimizer: str = "adamw"
    """a name in `llm_scratch.training.optim.OPTIMIZERS`"""
    lr: float = 1e-3
    """peak learning rate"""
    min_lr: float = 0.0
    """final learning rate"""
    warmup_steps: int = 0
    """steps over which the learning rate rises from 0"""
    schedule: str = "cosine"
    """a name in `llm_scratch.training.schedule.SCHEDULES`"""
    weight_decay: float = 0.1
    """weight decay"""
    decay: Literal["matrices", "all"] = "matrices"
    """parameters with weight decay: "matrices",
    or "all" (norms and biases too, as in the notebooks' AdamW)
    """
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW betas: decay rates of the averages of gradient and squared gradient"""
    grad_clip: float | None = 1.0
    """gradient clipping: largest gradient norm; None: off"""
    spike_sigmas: float = 6.0
    """skip a step whose loss is this many standard deviations above the last 128; 0: never"""
    rollback_lr: float = 1.0
    """factor of the learning rate for each rollback,
    which three bad steps in a row cause, e.g. 0.5
    """
    seed: int = 123
    """random seed of the initial weights, the data order and dropout"""
    eval_every: int = 100
    """steps between evaluations; the best checkpoint is kept at an evaluation"""
    eval_batches: int | None = 8
    """batches per evaluation; None: the whole validation text"""
    save_every: int = 500
    """steps between checkpoints"""
    sample_every: int = 250
    """steps between samples; 0: none"""
    prompt: str = "Once upon a time"
    """prompt of the samples"""
    snapshot_every: int = 0
    """steps between snapshots, small copies of the weights
    for the training film of `llm-scratch play`; 0: none
    """
    log_every: int = 10
    """steps between rows of metrics.jsonl"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size % self.micro_batches:
            raise UserError(
                f"batch_size={self.batch_size} is not a multiple of"
                f" micro_batches={self.micro_batches}; change one of them"
            )


@dataclass(frozen=True)
class SystemConfig:
    """How a run is computed, not what is learned: a resumed run may change these settings."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """precision of matrix products; weights and optimizer state stay float32;
    "auto": bfloat16 if a short timing finds it faster
    """
    compile: Literal["auto", "yes", "no"] = "auto"
    """torch.compile; "auto": if it saves more time than compiling takes"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """under torchrun: every process has the whole model (ddp), or a shard of it (fsdp)"""
    activation_checkpointing: bool = False
    """activation checkpointing: recompute activations inside blocks in the backward pass;
    less memory, a third more work
    """
    async_save: Literal["auto", "yes", "no"] = "auto"
    """write checkpoints in the background, from a copy;
    "auto": if larger than 32 MiB and memory has room for it
    """
    tensorboard: bool = False
    """log to TensorBoard too (needs the extra `track`)"""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run, stored in its directory and checkpoints.

    `llm-scratch train PRESET --print-config` prints them.
    """

    model: ModelConfig = field(default_factory=GPTConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    init_from: str = ""
    """a model to initialize weights and tokenizer from (`train --from`):
    gpt2, hf:org/name, a run, a folder; "": random weights
    """
    parts: str = ""
    """a learner's file that replaces parts of the package (`train --parts`):
    its name and SHA-256; "": none
    """
    different_parts: str = ""
    """names of the parts in the model that are not equal to the package's;
    the model can only be loaded with the file
    """

    def with_model(self, **changes: Any) -> Self:
        """A copy with fields of the model changed.

        With another `architecture`, fields that both have with the same meaning are kept.
        """
        return replace(self, model=from_dict(ModelConfig, changes, self.model, "model"))

    def override(self, settings: Iterable[str]) -> RunConfig:
        """Change settings by text, as a command line or a file of experiments has them.

        Args:
            settings: `name=value` each, the value as in YAML: `train.lr=3e-4`, `train.betas=[0.9,
                0.95]`, `train.grad_clip=null`. The value of a setting that is a text is used
                unchanged. `model.architecture=x` precedes the settings of x.
        Raises:
            UserError: no `=`, an unknown setting (with the nearest name),
                a value of another type or out of range.

        Example: `preset("quickstart").override(["train.lr=3e-4", "model.n_layers=4"])`
        """
        config = self
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise UserError(
                    f"setting {setting!r}: has no value; give NAME=VALUE, such as train.lr=3e-4"
                )
            values = _nested(name.strip(), text.strip(), config)
            config = from_dict(RunConfig, values, without_epochs(config, values))
        return config


def _nested(name: str, text: str, config: RunConfig) -> dict[str, Any]:
    """`train.lr` and `3e-4` as {"train": {"lr": "3e-4"}}; the value is YAML unless it is a text."""
    part, _, field_name = name.partition(".")
    hints: Any = get_type_hints(RunConfig)
    if is_dataclass(hints.get(part)):
        hints = get_type_hints(type(getattr(config, part)))
    hint = hints.get(field_name or part)
    value = text if str in getattr(hint, "__args__", (hint,)) else parse_yaml_value(text, name)
    return {part: {field_name: value}} if field_name else {part: value}


def config_hash(config: Any) -> str:
    """A hash of 16 hex digits of all settings that affect what is learned; `system` does not."""
    return hashlib.sha256(
        json.dumps(resume_relevant(to_dict(config)), sort_keys=True).encode()
    ).hexdigest()[:16]


OBSERVATION_SETTINGS = frozenset(
    {
        "eval_every",
        "eval_batches",
        "save_every",
        "sample_every",
        "prompt",
        "snapshot_every",
        "log_every",
    }
)
"""Fields of `TrainConfig` for measuring, sampling and saving; they change no weight."""


def resume_relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings (from `to_dict`) that affect what is learned: runs that agree are the same."""
    kept = {part: values for part, values in settings.items() if part != "system" and values != ""}
    if "train" in kept:
        kept["train"] = {k: v for k, v in kept["train"].items() if k not in OBSERVATION_SETTINGS}
    return kept


def load_config(path: str | Path, base: RunConfig | None = None) -> RunConfig:
    """Read a run's settings from a YAML or JSON file; missing keys keep the values of `base`.

    Names of older formats, as in the config.yaml of an older run, are read as the current ones.

    Raises:
        UserError: a missing file, invalid YAML, or an unknown key.
    """
    settings = upgrade_settings(read_yaml(path, USAGE))
    return from_dict(RunConfig, settings, without_epochs(base or RunConfig(), settings))


def without_epochs(base: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """`base` for settings that give the steps of a run: its epochs would override them."""
    train = settings.get("train")
    if not isinstance(train, Mapping) or "steps" not in train or "epochs" in train:
        return base
    return replace(base, train=replace(base.train, epochs=None))


def dump_config(config: RunConfig) -> str:
    """A run's settings as YAML, in the order of the classes."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
