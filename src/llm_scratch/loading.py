"""Load a model from any supported format: `load("runs/x")`, `load("gpt2")`, `load("hf:org/name")`.

`FORMATS` lists the supported formats with their detection and loader. No code in a file is
executed: weights are read from safetensors, TensorFlow tensors, or with torch's weights-only
unpickler.
Tests: tests/test_loading.py, tests/interop/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llm_scratch.architectures import NOT_IN_WEIGHTS, ModelConfig
from llm_scratch.checkpoint_model import check_parameter_count, from_checkpoint
from llm_scratch.errors import CHECKPOINT, UserError, did_you_mean
from llm_scratch.generation.dtype import Dtype, bits_of, with_dtype
from llm_scratch.generation.inference import InferenceSetup, prepare_for_inference
from llm_scratch.hardware.device import DeviceChoice, choose_device
from llm_scratch.hardware.matmul_backend import select_matmul_backend
from llm_scratch.interop import hf, litgpt, nanogpt, notebook
from llm_scratch.interop.gguf import is_gguf, load_gguf
from llm_scratch.interop.gpt2 import load_named
from llm_scratch.interop.hub import from_hub
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.interop.openai_files import GPT2
from llm_scratch.interop.torch_file import read_torch
from llm_scratch.interop.weight_map import named_tensors, set_parameters
from llm_scratch.model import LanguageModel, build
from llm_scratch.ranges import OutOfRange
from llm_scratch.storage import checkpoint
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, Tokenizer
from llm_scratch.tokenizers.locate import open_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A loaded model with its tokenizer and, for files of the notebooks, its optimizer state."""

    model: LanguageModel
    tokenizer: Tokenizer
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """optimizer state, under names such as `tok_emb.weight/exp_avg`"""
    train: dict[str, Any] = field(default_factory=dict)
    """settings of TrainConfig that the optimizer used"""
    assumed: dict[str, Any] = field(default_factory=dict)
    """values by convention that the file does not contain: name -> value, for people"""
    hf_folder: Path | None = None
    """the folder of transformers that it was read from; None: another format"""


class Options(NamedTuple):
    """Settings that a file may lack."""

    tokenizer: Tokenizer | None = None
    n_heads: int | None = None
    drop_rate: float | None = None

    def tokenizer_for(self, folder: Path, vocab_size: int) -> Tokenizer:
        """The given tokenizer, or the folder's, or GPT-2's; at most as many tokens as the model.

        Raises:
            UserError: it has more (exit code 4).
        """
        own = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))
        tokenizer = self.tokenizer or (
            open_tokenizer(folder) if own else TOKENIZERS["gpt2"]([], None)
        )
        if tokenizer.n_vocab > vocab_size:
            raise UserError(
                f"the model in {folder} has {vocab_size:,} tokens, but the tokenizer has"
                f" {tokenizer.n_vocab:,}; pass the one that it was trained with: --tokenizer"
                " FOLDER, or chars:FILE with its training text",
                CHECKPOINT,
            )
        return tokenizer


class Format(NamedTuple):
    """A supported format of model files, or a kind of name."""

    name: str
    """for people"""
    matches: Callable[[Path], bool]
    """whether a path, or a name as a path, is of this format"""
    read: Callable[[Path, Options], Loaded]


def load(
    where: str | Path, device: str = "cpu", dtype: Dtype = "float32", *, n_heads: int | None = None
) -> tuple[LanguageModel, Tokenizer]:
    """Load a model for inference, and its tokenizer.

    On a CPU this also selects the faster matrix library for float32 (`hardware.matmul_backend`),
    for the whole process, as torch has no narrower setting: the last bits of the caller's own
    products may change, not their precision.

    Args:
        where: a file or folder of a format in `FORMATS` (of a run directory its best checkpoint),
            or a name: gpt2, gpt2-medium, gpt2-large, gpt2-xl, hf:org/name. Models by name are
            downloaded once.
        device: of the weights, such as "cpu" or "cuda".
        dtype: of the weights; "auto" takes the fastest for inference, see `generation.dtype`. A
            quantized model keeps its own. For inference on a CPU, `model.packed.pack(model)` is
            faster still; a packed model cannot be trained.
        n_heads: attention heads per layer, which the notebooks' files do not contain.
    Raises:
        UserError: no model there, or it is corrupt or needs code to be run (exit code 4); it cannot
            be downloaded (exit code 3).

    Example:
        model, tokenizer = load("runs/quickstart")
    """
    loaded = read(where, Options(n_heads=n_heads))
    if torch.device(device).type == "cpu":
        select_matmul_backend()
    return with_dtype(loaded.model.to(device), dtype)[0].eval(), loaded.tokenizer


@dataclass(frozen=True)
class InferenceModel:
    """A model that is ready to generate, its tokenizer, and what was chosen for it and why."""

    model: LanguageModel
    tokenizer: Tokenizer
    device: DeviceChoice
    setup: InferenceSetup

    def __str__(self) -> str:
        return f"{self.device}, {self.setup}"


def load_for_inference(
    where: str | Path,
    device: str = "auto",
    dtype: Dtype = "auto",
    *,
    compile: bool = False,
    **preparation: Any,
) -> InferenceModel:
    """Load a model for fast inference: on a device, in a data type, packed or compiled.

    Unlike the model of `load`, it can no longer be trained or saved.

    Args:
        where: as for `load`.
        device: as in `hardware.device.choose_device`; "auto" is the fastest one here.
        dtype: as in `generation.dtype`; "auto" is the fastest one here.
        compile, preparation: as in `generation.inference.prepare_for_inference`.
    Raises:
        UserError: as `load`; no such device, or steps to be compiled for one that is not a CPU.
    """
    choice = choose_device(device)
    on_cpu = torch.device(choice.name).type == "cpu"
    if compile and not on_cpu:
        raise UserError(
            f"compile: only CPUs are supported, and this is {choice.name};"
            " leave it out, or use the device cpu"
        )
    loaded = read(where)
    if on_cpu:
        select_matmul_backend()
    model = loaded.model.to(choice.name).eval()
    setup = prepare_for_inference(model, dtype, compile=compile, **preparation)
    return InferenceModel(model, loaded.tokenizer, choice, setup)


def read(where: str | Path, options: Options | None = None) -> Loaded:
    """Load a model like `load`, with everything that came with it."""
    path = expand_user(where)
    options = options or Options()
    for format in FORMATS:
        if format.matches(path):
            try:
                loaded = format.read(path, options)
            except OutOfRange as e:
                raise UserError(f"{path}: {e}", CHECKPOINT) from e
            if options.n_heads not in (None, own := loaded.model.cfg.n_heads):
                raise UserError(
                    f"{where} has n_heads={own}, not {options.n_heads}; leave n_heads out",
                    CHECKPOINT,
                )
            return loaded
    if path.exists():
        kind = "folder" if path.is_dir() else "file"
        raise UserError(
            f"{where} is not a {kind} of a known model format; supported are {supported_formats()}",
            CHECKPOINT,
        )
    hint = _near_path(path) or f"expected {supported_formats()}"
    raise UserError(f"no model at {where}; {hint}", CHECKPOINT)


def _near_path(path: Path) -> str:
    """Suggest a path with nearly the same name as one that does not exist; "" without one."""
    beside: list[str] = []
    with suppress(OSError):
        beside = [str(path.parent / each.name) for each in path.parent.iterdir()]
    return did_you_mean(str(path), beside)


def supported_formats() -> str:
    """The supported formats, for people."""
    return ", ".join(format.name for format in FORMATS)


def _is_hub_name(path: Path) -> bool:
    return path.as_posix().startswith("hf:")


def _from_hub(path: Path, options: Options) -> Loaded:
    return read(from_hub(path.as_posix().removeprefix("hf:")), options)


def _is_gpt2_name(path: Path) -> bool:
    return path.as_posix() in GPT2


def _gpt2(path: Path, options: Options) -> Loaded:
    return Loaded(*load_named(path.as_posix()))


def _is_checkpoint(path: Path) -> bool:
    return (path / "manifest.json").is_file()


def _checkpoint(path: Path, options: Options) -> Loaded:
    return Loaded(*from_checkpoint(checkpoint.read(path)))


def _is_run(path: Path) -> bool:
    return (path / "ckpt").is_dir()


def _run(path: Path, options: Options) -> Loaded:
    saved = checkpoint.load_latest(path, log.warning, prefer="best")
    if saved is None:
        raise UserError(
            f"{path} has no checkpoint yet; continue its training with `llm-scratch train`",
            CHECKPOINT,
        )
    return Loaded(*from_checkpoint(saved))


def _is_openai(path: Path) -> bool:
    return (path / "hparams.json").is_file() and (path / "model.ckpt.index").is_file()


def _openai(path: Path, options: Options) -> Loaded:
    return Loaded(*load_gpt2(path))


def _transformers(path: Path, options: Options) -> Loaded:
    return Loaded(*hf.load_folder(path, options.tokenizer), hf_folder=path)


def _gguf(path: Path, options: Options) -> Loaded:
    return Loaded(*load_gguf(path, options.tokenizer))


def _torch_file(path: Path, options: Options) -> Loaded:
    """Load a file of torch.save: nanoGPT's, or the notebooks'."""
    saved = read_torch(path)
    if nanogpt.is_nanogpt(saved):
        model = nanogpt.load_nanogpt(saved, path)
        return Loaded(model, options.tokenizer_for(path.parent, model.cfg.vocab_size))
    weights = notebook.weights_of(saved, path)
    cfg = notebook.config_of(weights, path, drop_rate=options.drop_rate)
    if (heads := options.n_heads) is None and (heads := notebook.known_heads(cfg)) is not None:
        log.warning(
            "%s does not contain the number of attention heads; assuming GPT-2's, %d", path, heads
        )
    if cfg.emb_dim % (heads or 1):
        raise notebook.wrong_heads(path, cfg.emb_dim, heads)
    cfg = replace(cfg, n_heads=heads or 1)
    tokenizer = options.tokenizer_for(path.parent, cfg.vocab_size)
    model = build(check_parameter_count(cfg, weights, path))
    checkpoint.set_weights(model, weights, str(path))
    optimizer = notebook.optimizer_of(saved, model, path)
    if heads is None:
        raise notebook.unknown_heads(path, cfg.emb_dim)
    assumed = {"activation": "GELU in its tanh form", "norm eps": 1e-5}
    if options.drop_rate is None:
        assumed["dropout"] = cfg.drop_rate
    return Loaded(model, tokenizer, *optimizer, assumed)


def _litgpt(path: Path, options: Options) -> Loaded:
    model = litgpt.load_litgpt(path)
    return Loaded(model, options.tokenizer_for(path, model.cfg.vocab_size))


FORMATS = [
    Format("a checkpoint", _is_checkpoint, _checkpoint),
    Format("a run directory", _is_run, _run),
    Format("a folder of OpenAI's GPT-2 (hparams.json, model.ckpt.index)", _is_openai, _openai),
    Format(
        "a folder of transformers (config.json, model.safetensors)", hf.is_folder, _transformers
    ),
    Format("a folder of litgpt (model_config.yaml, lit_model.pth)", litgpt.is_litgpt, _litgpt),
    Format("a .gguf file of llama.cpp or ollama", is_gguf, _gguf),
    Format("a .pth file of the notebooks or nanoGPT's ckpt.pt", Path.is_file, _torch_file),
    Format(f"a name: {', '.join(GPT2)}", _is_gpt2_name, _gpt2),
    Format("hf:org/name", _is_hub_name, _from_hub),
]
"""The supported formats; the first that matches is used. To add one, append it."""


def load_for_training(where: str | Path, cfg: ModelConfig) -> tuple[LanguageModel, Tokenizer]:
    """Load a model to continue training, and its tokenizer.

    Args:
        where: as for `load`.
        cfg: the settings to train with: the model's own, except dropout and a context that may be
            shorter (the last positions are dropped).
    Raises:
        UserError: `cfg` does not fit the weights (exit code 2).
    """
    model, tokenizer = load(where, n_heads=cfg.n_heads if Path(where).is_file() else None)
    own = model.cfg
    if (bits := bits_of(model)) is not None:
        raise UserError(
            f"{where} is quantized to {bits} bits and cannot be trained;"
            " use the model that it was made from"
        )
    if cfg.context_length > own.context_length:
        raise UserError(
            f"{where}: context_length={cfg.context_length} exceeds the {own.context_length}"
            " positions that the model was trained with; set --model.context-length to"
            f" {own.context_length} or less"
        )
    if mismatches := [
        name for name in own if name not in NOT_IN_WEIGHTS and own[name] != cfg.get(name)
    ]:
        name = mismatches[0]
        raise UserError(
            f"{where} has {name}={own[name]}, but the settings have {name}={cfg[name]};"
            " leave it out, or start from random weights"
        )
    scaling = own.get("rope_scaling")
    by_context = scaling in ("llama3", "yarn") and own["rope_trained_context"] is None
    if by_context and cfg.context_length != own.context_length:
        raise UserError(
            f"{where}: rope_scaling={scaling!r} depends on its context_length;"
            f" set --model.context-length to {own.context_length}"
        )
    model.crop_context(cfg.context_length)
    with torch.device("meta"):
        target = build(cfg)
    target.start_id = model.start_id
    set_parameters(target, {name: tensor.detach() for name, tensor in named_tensors(model).items()})
    return target, tokenizer
