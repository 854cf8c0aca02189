"""What a run is: the shape of the model, its text, its training; frozen, checked once, to and from JSON and YAML.

The command line, the YAML file and the JSON in every checkpoint are all made from these five classes, so a setting
has one name everywhere. The first seven fields of `ModelConfig` are the keys of the notebooks' dict.
Proof: tests/test_config.py.
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
from llm_scratch.storage.safe_parse import parse_yaml_value, read_yaml

T = TypeVar("T")


@dataclass(frozen=True)
class ModelConfig(Mapping[str, Any]):
    """The shape of a model. `cfg.emb_dim` and `cfg["emb_dim"]` both work.

    The first seven fields and their names are the notebooks' dict, key for key. Defaults are GPT-2 "small" (124 M parameters).
    """

    vocab_size: int = 50257
    """V: how many different tokens there are"""
    context_length: int = 1024
    """how many tokens the model can see at once"""
    emb_dim: int = 768
    """C: width of the residual stream"""
    n_heads: int = 12
    """H: attention heads a layer; emb_dim is a multiple of it"""
    n_layers: int = 12
    """transformer blocks"""
    drop_rate: float = 0.1
    """share of activations set to 0 while training"""
    qkv_bias: bool = False
    """bias of the query, key and value projections (GPT-2's own weights have one)"""
    tie_embeddings: bool = False
    """the output head is the token embedding (GPT-2's own weights; saves V x C parameters)"""
    init: Literal["torch", "gpt2", "mimetic"] = "torch"
    """first weights: "torch" gives the notebooks' printed numbers, "gpt2" is normal(0, 0.02), "mimetic" also lets attention copy at once"""
    architecture: str = "gpt"
    """a name in `llm_scratch.model.MODELS`"""
    bits: Literal[32, 8, 4] = 32
    """of a number in a matrix; `llm-scratch quantize` makes models of 8 and 4, which write and do not learn"""

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
        """This class from itself or from the notebooks' dict; an unknown key is an error with the nearest name."""
        return cfg if isinstance(cfg, cls) else from_dict(cls, cfg)

    @property
    def n_params(self) -> int:
        """Trainable numbers, counted by the formula of `gpt` or `modern` and not by building it; your own architectures count as `gpt`."""
        C, V = self.emb_dim, self.vocab_size
        if self.architecture == "modern":
            return V * C * (1 if self.tie_embeddings else 2) + self.n_layers * 12 * C * C
        block = 3 * (C * C + C * self.qkv_bias) + (C * C + C) + (8 * C * C + 5 * C) + 4 * C
        return V * C * (1 if self.tie_embeddings else 2) + self.context_length * C + self.n_layers * block + 2 * C


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it becomes batches."""

    source: str = "stories"
    """a name in `llm_scratch.data.sources.SOURCES`, with its argument: verdict, stories:20000, file:books/*.txt, shards:FOLDER"""
    tokenizer: str = "bpe"
    """a name in `llm_scratch.tokenizers.TOKENIZERS`, of which bpe learns model.vocab_size tokens; or a tokenizer.json, its folder, a run"""
    tokenizer_sample: int | None = None
    """characters of the training text that bpe learns from, spread over it; None: all"""
    val_fraction: float = 0.1
    """share of the text kept for validation"""
    split: Literal["tokens", "characters", "documents"] = "tokens"
    """what is cut: "tokens" and "characters" (the notebooks) hold out the end of the text, "documents" every so many documents"""
    order: Literal["shuffled", "documents", "epochs"] = "shuffled"
    """rows: "shuffled" windows at a new offset each pass, "documents" one document a row, "epochs" the notebooks' loader"""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class TrainConfig:
    """How the weights are found."""

    steps: int = 1000
    """optimizer steps; with `epochs` set it follows from the data"""
    epochs: int | None = None
    """passes over the data; when set, `steps` follows from it"""
    batch_size: int = 16
    """rows of context_length tokens in one optimizer step"""
    micro_batches: int = 1
    """parts that a batch is cut into, to fit the memory; the result is the same"""
    optimizer: str = "adamw"
    """a name in `llm_scratch.training.optim.OPTIMIZERS`"""
    lr: float = 1e-3
    """highest learning rate"""
    min_lr: float = 0.0
    """learning rate at the end"""
    warmup_steps: int = 0
    """steps over which the learning rate rises from 0"""
    schedule: str = "cosine"
    """a name in `llm_scratch.training.schedule.SCHEDULES`"""
    weight_decay: float = 0.1
    """pull of the weights towards 0"""
    decay: Literal["matrices", "all"] = "matrices"
    """what is pulled: "all" takes norms and biases too, as the notebooks' AdamW does"""
    betas: tuple[float, float] = (0.9, 0.95)
    """memory of AdamW's two averages"""
    max_norm: float | None = 1.0
    """longest gradient; longer ones are scaled down; None: as they are"""
    spike_sigmas: float = 6.0
    """a step whose loss lies this many standard deviations above the last 128 moves nothing; 0: every loss is taken as it comes"""
    rollback_lr: float = 1.0
    """what the learning rate is multiplied by each time that three bad steps in a row lead back to a checkpoint, e.g. 0.5"""
    seed: int = 123
    """of the first weights, the data order and dropout"""
    eval_every: int = 100
    """steps between two looks at the held-out loss, which is also when the best checkpoint is kept"""
    eval_batches: int | None = 8
    """batches a look takes; None: all of the held-out text"""
    save_every: int = 500
    """steps between two checkpoints"""
    sample_every: int = 250
    """steps between two samples; 0: none"""
    prompt: str = "Once upon a time"
    """what the samples begin with"""
    log_every: int = 10
    """steps between two lines of metrics.jsonl"""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size % self.micro_batches:
            raise UserError(f"batch_size={self.batch_size} is not a multiple of micro_batches={self.micro_batches}")


@dataclass(frozen=True)
class SystemConfig:
    """How the work is done, not what is learned: a run may go on with other values here, on another machine."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the matrix products; weights and optimizer stay float32. "auto": bfloat16 where a short trial finds it faster"""
    compile: Literal["auto", "yes", "no"] = "auto"
    """torch.compile; "auto": where the time it takes comes back within the run"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """under torchrun: every process holds the whole model, or a share of it"""
    recompute: bool = False
    """keep no activations inside blocks and compute them again on the way back: less memory, a third more work"""
    background_save: Literal["auto", "yes", "no"] = "auto"
    """write checkpoints from a copy, while training goes on; "auto": one of over 32 MiB that memory has room for"""
    tensorboard: bool = False
    """write the curves for TensorBoard too (needs the extra `track`)"""


@dataclass(frozen=True)
class RunConfig:
    """Everything a run needs; `llm-scratch train PRESET --print-config` prints it, and it lies in every run and checkpoint."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    machine: SystemConfig = field(default_factory=SystemConfig)
    start: str = ""
    """a model whose weights and tokenizer to begin with (`train --from`): gpt2, hf:org/name, a run, a folder; "": fresh ones"""

    def with_model(self, **changes: Any) -> Self:
        """The same run with fields of its model changed."""
        return replace(self, model=replace(self.model, **changes))

    def override(self, settings: Iterable[str]) -> RunConfig:
        """Change settings by text, as a command line or a file of experiments has them.

        Args:
            settings: `name=value` each, the value as in YAML: `train.lr=3e-4`, `train.betas=[0.9, 0.95]`, `train.max_norm=null`.
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
    """A config as plain dicts, ready for JSON or YAML."""
    return json.loads(json.dumps(asdict(config)))


def from_dict(cls: type[T], values: Mapping[str, Any], base: T | None = None, path: str = "") -> T:
    """A config from plain dicts; what is not named keeps `base`'s value (or the default).

    Raises:
        UserError: a key that does not exist (with the nearest name), or a value of another type.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    if not isinstance(values, Mapping):
        raise UserError(f"setting {path or 'config'!r} holds {values!r}; expected keys like {', '.join(sorted(known)[:4])}")
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
    """`value` as the type that the field says, or a UserError: YAML and JSON hold whatever somebody wrote."""
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
            return float(value)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            pass
    elif int in options and isinstance(value, int) and not isinstance(value, bool):
        return value
    join = " and " if getattr(hint, "__origin__", None) is tuple else " or "
    wanted = join.join("nothing" if o is type(None) else getattr(o, "__name__", str(o)) for o in options)
    raise UserError(f"setting {name!r} is {value!r}; expected {wanted}")


def config_hash(config: Any) -> str:
    """Sixteen hex digits that change when any setting of what is learned does; `machine` is not part of that."""
    return hashlib.sha256(json.dumps(resume_relevant(to_dict(config)), sort_keys=True).encode()).hexdigest()[:16]


OBSERVATION_SETTINGS = frozenset({"eval_every", "eval_batches", "save_every", "sample_every", "prompt", "log_every"})
"""Fields of `TrainConfig` that decide what is measured, shown and saved, and when; they change no weight."""


def resume_relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings (as `to_dict` gives them) that decide what is learned: two runs that agree on them are the same run."""
    kept = {part: values for part, values in settings.items() if part != "machine" and values != ""}
    if "train" in kept:
        kept["train"] = {k: v for k, v in kept["train"].items() if k not in OBSERVATION_SETTINGS}
    return kept


def load_config(path: str | Path, base: RunConfig | None = None) -> RunConfig:
    """A run's settings from a YAML or JSON file, over `base`.

    Raises:
        UserError: no such file, not YAML, an unknown key.
    """
    return from_dict(RunConfig, read_yaml(path, USAGE), base or RunConfig())


def dump_config(config: RunConfig) -> str:
    """A run's settings as YAML, in the order of the classes."""
    import yaml

    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
