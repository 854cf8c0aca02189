"""Configuration of a run: model, data, training and system settings; frozen, validated, to and from JSON and YAML.

The command line, the YAML file and the JSON in every checkpoint are all made from these five
classes, so a setting has one name everywhere. The first seven fields of `ModelConfig` are the keys
of the notebooks' dict.
Tests: tests/test_config.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_type_hints

from llm_scratch.errors import USAGE, UserError, unknown
from llm_scratch.ranges import OutOfRange, check_fields
from llm_scratch.storage.older_formats import upgrade_settings
from llm_scratch.storage.safe_parse import parse_yaml_value, read_yaml

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig(Mapping[str, Any]):
    """The shape of a model. `cfg.emb_dim` and `cfg["emb_dim"]` both work.

    The first seven fields and their names are the notebooks' dict, key for key. Defaults are GPT-2
    "small" (124 M parameters).
    """

    vocab_size: int = 50257
    """V: number of tokens in the vocabulary"""
    context_length: int = 1024
    """T: largest number of tokens that the model attends to"""
    emb_dim: int = 768
    """C: width of the residual stream"""
    n_heads: int = 12
    """H: attention heads per layer; emb_dim must be a multiple of it"""
    n_layers: int = 12
    """number of transformer blocks"""
    drop_rate: float = 0.1
    """dropout rate during training"""
    qkv_bias: bool = False
    """bias in the query, key and value projections (GPT-2's weights have one)"""
    tie_embeddings: bool = False
    """share the token embedding with the output head (as GPT-2 does; saves V x C parameters)"""
    init: Literal["torch", "gpt2", "mimetic"] = "torch"
    """weight initialization: "torch" as in the notebooks, "gpt2" normal(0, 0.02), "mimetic" also lets attention copy from the start"""
    architecture: str = "gpt"
    """a name in `llm_scratch.model.MODELS`"""
    bits: Literal[32, 8, 4] = 32
    """bits per weight; 8 and 4 (from `llm-scratch quantize`) are inference-only"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.emb_dim % self.n_heads:
            near = max(self.emb_dim // self.n_heads, 1) * self.n_heads
            raise UserError(f"emb_dim={self.emb_dim} is not a multiple of n_heads={self.n_heads}; try emb_dim={near}")

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> ModelConfig:
        """Convert the notebooks' dict, or return a `ModelConfig` as it is; an unknown key is an error with the nearest name."""
        return cfg if isinstance(cfg, cls) else from_dict(cls, cfg)

    @property
    def n_params(self) -> int:
        """Number of trainable parameters, by formula, for `gpt` and `modern`; custom architectures count as `gpt`."""
        C, V = self.emb_dim, self.vocab_size
        if self.architecture == "nanochat":
            return V * C * (1 if self.tie_embeddings else 2) + self.n_layers * 12 * C * C
        block = 3 * (C * C + C * self.qkv_bias) + (C * C + C) + (8 * C * C + 5 * C) + 4 * C
        return V * C * (1 if self.tie_embeddings else 2) + self.context_length * C + self.n_layers * block + 2 * C


@dataclass(frozen=True)
class DataConfig:
    """The text of a run, its tokenizer and how it becomes batches."""

    source: str = "stories"
    """a name in `llm_scratch.data.sources.SOURCES`, with its argument: verdict, stories:20000, file:books/*.txt, shards:FOLDER"""
    tokenizer: str = "bpe"
    """a name in `llm_scratch.tokenizers.TOKENIZERS` (bpe is trained to model.vocab_size tokens), a tokenizer.json, its folder, or a run"""
    tokenizer_sample: int | None = None
    """characters of the training text to train bpe on, spread over it; None: all"""
    val_fraction: float = 0.1
    """share of the text for validation"""
    split: Literal["tokens", "characters", "documents"] = "tokens"
    """validation split: "tokens" and "characters" (the notebooks) take the end of the text, "documents" evenly spaced documents"""
    order: Literal["shuffled", "documents", "notebook"] = "shuffled"
    """rows: "shuffled" windows at a new offset each epoch, "documents" one document per row, "notebook" the notebooks' loader"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainConfig:
    """Optimizer, learning-rate schedule and intervals of the training."""

    steps: int = 1000
    """number of optimizer steps; ignored if `epochs` is set"""
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
    """parameters with weight decay: "matrices", or "all" (norms and biases too, as in the notebooks' AdamW)"""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW betas: decay rates of the averages of gradient and squared gradient"""
    grad_clip: float | None = 1.0
    """gradient clipping: largest gradient norm; None: off"""
    spike_sigmas: float = 6.0
    """skip a step whose loss is this many standard deviations above the last 128; 0: never"""
    rollback_lr: float = 1.0
    """factor of the learning rate for each rollback, which three bad steps in a row cause, e.g. 0.5"""
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
    """steps between snapshots, small copies of the weights for the training film of `llm-scratch play`; 0: none"""
    log_every: int = 10
    """steps between rows of metrics.jsonl"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size % self.micro_batches:
            raise UserError(f"batch_size={self.batch_size} is not a multiple of micro_batches={self.micro_batches}; change one of them")


@dataclass(frozen=True)
class SystemConfig:
    """How a run is computed, not what is learned: a resumed run may change these settings."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of matrix products; weights and optimizer state stay float32. "auto": bfloat16 if a short timing finds it faster"""
    compile: Literal["auto", "yes", "no"] = "auto"
    """torch.compile; "auto": if it saves more time than compiling takes"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """under torchrun: every process has the whole model (ddp), or a shard of it (fsdp)"""
    activation_checkpointing: bool = False
    """activation checkpointing: recompute activations inside blocks in the backward pass; less memory, a third more work"""
    async_save: Literal["auto", "yes", "no"] = "auto"
    """write checkpoints in the background, from a copy; "auto": if larger than 32 MiB and memory has room for it"""
    tensorboard: bool = False
    """log to TensorBoard too (needs the extra `track`)"""


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; stored in every run directory and checkpoint. `llm-scratch train PRESET --print-config` prints them."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    init_from: str = ""
    """a model to initialize weights and tokenizer from (`train --from`): gpt2, hf:org/name, a run, a folder; "": random weights"""

    def with_model(self, **changes: Any) -> Self:
        """A copy with fields of the model changed."""
        return replace(self, model=replace(self.model, **changes))

    def override(self, settings: Iterable[str]) -> RunConfig:
        """Change settings by text, as a command line or a file of experiments has them.

        Args:
            settings: `name=value` each, the value as in YAML: `train.lr=3e-4`, `train.betas=[0.9, 0.95]`, `train.grad_clip=null`.
                The value of a setting that is a text is taken as it stands.
        Raises:
            UserError: no `=`, an unknown setting (with the nearest name), a value of another type or out of range.

        Example: `preset("quickstart").override(["train.lr=3e-4", "model.n_layers=4"])`
        """
        config = self
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise UserError(f"setting {setting!r}: has no value; give NAME=VALUE, such as train.lr=3e-4")
            config = from_dict(RunConfig, _nested(name.strip(), text.strip()), config)
        return config


def _nested(name: str, text: str) -> dict[str, Any]:
    """`train.lr` and `3e-4` as {"train": {"lr": "3e-4"}}, the value read as YAML unless the setting is a text."""
    part, _, field_name = name.partition(".")
    hints: Any = get_type_hints(RunConfig)
    if is_dataclass(hints.get(part)):
        hints = get_type_hints(hints[part])
    hint = hints.get(field_name or part)
    value = text if str in getattr(hint, "__args__", (hint,)) else parse_yaml_value(text, name)
    return {part: {field_name: value}} if field_name else {part: value}


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a config to plain dicts, ready for JSON or YAML."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any], base: T | None = None, path: str = "") -> T:
    """Make a config from plain dicts; missing keys keep `base`'s value (default: the field's default).

    Raises:
        UserError: an unknown key (with the nearest one), or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    if not isinstance(values, Mapping):
        raise UserError(f"setting {path or 'config'!r} is {values!r}; expected keys like {', '.join(sorted(known)[:4])}")
    for key, value in values.items():
        if key not in known:
            raise unknown("setting", f"{path}.{key}".lstrip("."), [f"{path}.{k}".lstrip(".") for k in known])
        hint = hints[key]
        if is_dataclass(hint) and not isinstance(value, hint):  # type: ignore[arg-type]
            value = from_dict(hint, value, getattr(base, key) if base is not None else None, f"{path}.{key}".lstrip("."))  # type: ignore[arg-type]
        elif not is_dataclass(hint):
            value = _validate_types(hint, value, f"{path}.{key}".lstrip("."))
        changes[key] = value
    try:
        return cls(**changes) if base is None else replace(base, **changes)  # type: ignore[type-var]
    except OutOfRange as e:
        raise e.shown_as(f"{path}.{e.name}".lstrip(".")) from None


def _validate_types(hint: Any, value: Any, name: str) -> Any:
    """Convert `value`, from untrusted YAML or JSON, to the type of the field, or raise a `UserError`."""
    options = getattr(hint, "__args__", (hint,))
    if getattr(hint, "__origin__", None) is tuple:
        if isinstance(value, (list, tuple)) and len(value) == len(options):
            return tuple(_validate_types(option, part, name) for option, part in zip(options, value))
    elif getattr(hint, "__origin__", None) is Literal:
        if value in options:
            return value
        raise unknown(f"value of {name}", str(value), [str(o) for o in options])
    elif value is None and type(None) in options:
        return None
    elif bool in options or str in options:
        if type(value) in options:
            return value
    elif float in options and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 parses 1e-3 as a string
        except ValueError:
            pass
    elif int in options and isinstance(value, int) and not isinstance(value, bool):
        return value
    join = " and " if getattr(hint, "__origin__", None) is tuple else " or "
    wanted = join.join("nothing" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise UserError(f"setting {name!r} is {value!r}; expected {wanted}")


def config_hash(config: Any) -> str:
    """A hash of 16 hex digits of all settings that affect what is learned; `system` does not."""
    return hashlib.sha256(json.dumps(resume_relevant(to_dict(config)), sort_keys=True).encode()).hexdigest()[:16]


OBSERVATION_SETTINGS = frozenset({"eval_every", "eval_batches", "save_every", "sample_every", "prompt", "snapshot_every", "log_every"})
"""Fields of `TrainConfig` for measuring, sampling and saving; they change no weight."""


def resume_relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings (from `to_dict`) that affect what is learned: runs that agree on them are the same run."""
    kept = {part: values for part, values in settings.items() if part != "system" and values != ""}
    if "train" in kept:
        kept["train"] = {k: v for k, v in kept["train"].items() if k not in OBSERVATION_SETTINGS}
    return kept


def load_config(path: str | Path, base: RunConfig | None = None) -> RunConfig:
    """Read a run's settings from a YAML or JSON file; missing keys keep the values of `base`.

    Names of older formats, as in the config.yaml of an older run, are read as the present ones.

    Raises:
        UserError: a missing file, invalid YAML, or an unknown key.
    """
    settings = upgrade_settings(read_yaml(path, USAGE))
    return from_dict(RunConfig, settings, base or RunConfig())


def dump_config(config: RunConfig) -> str:
    """A run's settings as YAML, in the order of the classes."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
