"""One door for every model: `model, tokenizer = load("runs/quickstart")`, `load("gpt2")`, `load("hf:org/name")`, `load("model.pth")`.

`FORMATS` is the table of what is known: how it is recognised, and who reads it. Nothing in a file is run: weights come from safetensors,
from TensorFlow's plain numbers, or through torch's weights-only reader.
Proof: tests/test_loading.py, tests/interop/.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig, RunConfig, from_dict
from llm_scratch.data.corpus import start_id
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.generation.dtype import Dtype, with_dtype
from llm_scratch.hardware.matmul_backend import select_matmul_backend
from llm_scratch.interop import hf, litgpt, nanogpt, notebook
from llm_scratch.interop.gpt2 import load_named
from llm_scratch.interop.gpt2_weight_map import set_parameters
from llm_scratch.interop.hf_tokenizer import read_tokenizer
from llm_scratch.interop.hub import from_hub
from llm_scratch.interop.openai import load_gpt2
from llm_scratch.interop.openai_files import GPT2
from llm_scratch.interop.torch_file import read_torch
from llm_scratch.model import build
from llm_scratch.model.introspection import vocab_size
from llm_scratch.ranges import OutOfRange
from llm_scratch.storage import checkpoint
from llm_scratch.storage.user_folders import expand_user
from llm_scratch.tokenizers import TOKENIZERS, CharTokenizer, Tokenizer, load_tokenizer

UNCHECKED_PARAMETERS = 1 << 26
"""numbers of a model that is built without asking whether its file holds so many"""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model as it came: what it is from, and, of the notebooks' files, what its optimizer remembered."""

    model: nn.Module
    tokenizer: Tokenizer
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    """under names such as `tok_emb.weight/exp_avg`"""
    train: dict[str, Any] = field(default_factory=dict)
    """settings of TrainConfig that the optimizer had"""
    assumed: dict[str, Any] = field(default_factory=dict)
    """what the file does not say and was taken by convention: name -> value, for people"""


class Options(NamedTuple):
    """What a file may leave open."""

    tokenizer: Tokenizer | None = None
    n_heads: int | None = None
    drop_rate: float | None = None

    def tokenizer_for(self, folder: Path, vocab_size: int) -> Tokenizer:
        """The given one, or the folder's, or GPT-2's; it must have no more tokens than the model.

        Raises:
            UserError: it has more (code 4).
        """
        own = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))
        found = self.tokenizer or (read_tokenizer(folder) if own else TOKENIZERS["gpt2"]([], None))
        if found.n_vocab > vocab_size:
            raise UserError(
                f"the model in {folder} has {vocab_size:,} tokens and the tokenizer {found.n_vocab:,}; name the one that it learned with: "
                "--tokenizer FOLDER, or chars:FILE with the text that it learned from",
                CHECKPOINT,
            )
        return found


class Format(NamedTuple):
    """A kind of file or folder that a model can come in."""

    name: str
    is_it: Callable[[Path], bool]
    read: Callable[[Path, Options], Loaded]


def load(where: str | Path, device: str = "cpu", dtype: Dtype = "float32", *, n_heads: int | None = None) -> tuple[nn.Module, Tokenizer]:
    """A model ready to write, and its tokenizer.

    On a CPU this also selects the faster matrix library for float32 (`hardware.matmul_backend`),
    for the whole process, as torch has no narrower setting: the last bits of the caller's own
    products may change, not their precision.

    Args:
        where: a file or folder of a kind in `FORMATS` (of a run directory its best checkpoint), or a name: gpt2, gpt2-medium,
            gpt2-large, gpt2-xl, hf:org/name. What is not on this machine is downloaded once.
        device: where the weights go.
        dtype: how many bits they have there; "auto" takes what writes fastest, see `generation.precision`. A quantized model keeps its own.
            To write on a CPU, `model.packed.pack(model)` is worth more still, and its end: it can no longer learn.
        n_heads: attention heads a layer, which the notebooks' files do not say.
    Raises:
        UserError: nothing there, or what is there is damaged or would need code to be run (code 4); it cannot be downloaded (code 3).
    """
    loaded = read(where, Options(n_heads=n_heads))
    if torch.device(device).type == "cpu":
        select_matmul_backend()
    return with_dtype(loaded.model.to(device), dtype)[0].eval(), loaded.tokenizer


def read(where: str | Path, options: Options | None = None) -> Loaded:
    """As `load`, with all that came with the model."""
    path = expand_user(where)
    if str(where).startswith("hf:"):
        path = from_hub(str(where)[3:])
    options = options or Options()
    for format in FORMATS:
        if format.is_it(path):
            try:
                loaded = format.read(path, options)
            except OutOfRange as e:
                raise UserError(f"{path}: {e}", CHECKPOINT) from e
            if options.n_heads not in (None, own := loaded.model.cfg["n_heads"]):  # type: ignore[index]
                raise UserError(f"{where} has n_heads={own}, not {options.n_heads}; leave the number of heads out", CHECKPOINT)
            return loaded
    if str(where) in GPT2:
        return Loaded(*load_named(str(where)))
    if path.exists():
        what = "no model that is known" if path.is_dir() else "not a kind of file that is known"
        raise UserError(f"{where} is {what}; known are {supported_formats()}", CHECKPOINT)
    raise UserError(f"no model at {where}; expected {supported_formats()}, or a name: {', '.join(GPT2)}, hf:org/name", CHECKPOINT)


def supported_formats() -> str:
    """The kinds of files and folders that are read, for people."""
    return ", ".join(format.name for format in FORMATS)


def from_checkpoint(found: checkpoint.Checkpoint) -> tuple[nn.Module, Tokenizer]:
    """The model and tokenizer of a checkpoint that has been read."""
    config = from_dict(RunConfig, found.config)
    model = build(check_parameter_count(config.model, found.weights, found.folder))
    checkpoint.set_weights(model, found.weights, str(found.folder))
    tokenizer = load_tokenizer(found.folder)
    model.start_id = start_id(config.data, tokenizer)  # type: ignore[assignment]
    return model, tokenizer


def check_parameter_count(cfg: ModelConfig, weights: Mapping[str, Tensor], where: Path) -> ModelConfig:
    """The settings, once it is sure that the weights are about as many as they ask for: a small file shall not claim all memory.

    Raises:
        UserError: they are far fewer (code 4).
    """
    has = sum(tensor.numel() for tensor in weights.values())
    if cfg.n_params > max(4 * has, UNCHECKED_PARAMETERS):  # two numbers of 4 bits lie in one; other architectures count otherwise
        raise UserError(f"{where}: its settings are of a model of {cfg.n_params:,} numbers, and it holds {has:,}", CHECKPOINT)
    return cfg


def _run(path: Path, options: Options) -> Loaded:
    found = checkpoint.load_latest(path, log.warning, prefer="best")
    if found is None:
        raise UserError(f"no model at {path}: the run has saved nothing yet; `llm-scratch train` goes on with it", CHECKPOINT)
    return Loaded(*from_checkpoint(found))


def _torch_file(path: Path, options: Options) -> Loaded:
    """A file of torch.save: nanoGPT's, or the notebooks'."""
    saved = read_torch(path)
    if nanogpt.is_nanogpt(saved):
        model = nanogpt.load_nanogpt(saved, path)
        return Loaded(model, options.tokenizer_for(path.parent, vocab_size(model) or 0))
    weights = notebook.weights_of(saved, path)
    cfg = notebook.config_of(weights, path, drop_rate=options.drop_rate)
    if (heads := options.n_heads) is None and (heads := notebook.known_heads(cfg)) is not None:
        log.warning("%s does not say how many attention heads its model has; taken as GPT-2's, %d", path, heads)
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
    return Loaded(model, options.tokenizer_for(path, vocab_size(model) or 0))


FORMATS = (
    Format(
        "a checkpoint", lambda path: (path / "manifest.json").is_file(), lambda path, _: Loaded(*from_checkpoint(checkpoint.read(path)))
    ),
    Format("a run directory", lambda path: (path / "ckpt").is_dir(), _run),
    Format(
        "a folder of OpenAI's GPT-2 (hparams.json, model.ckpt.index)",
        lambda path: (path / "hparams.json").is_file() and (path / "model.ckpt.index").is_file(),
        lambda path, _: Loaded(*load_gpt2(path)),
    ),
    Format(
        "a folder of transformers (config.json, model.safetensors)",
        hf.is_folder,
        lambda path, options: Loaded(*hf.load_folder(path, options.tokenizer)),
    ),
    Format("a folder of litgpt (model_config.yaml, lit_model.pth)", litgpt.is_litgpt, _litgpt),
    Format("a .pth file of the notebooks or nanoGPT's ckpt.pt", lambda path: path.is_file(), _torch_file),
)
"""What is known, the first that fits is taken."""


def tokenizer_named(words: str) -> Tokenizer:
    """A tokenizer that a user names: `gpt2`, a folder or file of a tokenizer.json, or `chars:FILE`, a text's characters, as in nanoGPT.

    Raises:
        UserError: there is none (code 3).
    """
    kind, _, file = words.partition(":")
    if kind == "chars" and file:
        from llm_scratch.data.sources import read as read_source

        return CharTokenizer.train(read_source(f"file:{file}"), end_of_text=False)
    return TOKENIZERS["gpt2"]([], None) if words == "gpt2" else read_tokenizer(words)


def load_for_training(where: str | Path, cfg: ModelConfig) -> tuple[nn.Module, Tokenizer]:
    """A model to go on training from, and its tokenizer.

    Args:
        where: as `load` takes it.
        cfg: the settings that it shall have: its own, but for dropout and a context that may be shorter; its last positions are cut off.
    Raises:
        UserError: `cfg` asks for what the weights are not (code 2).
    """
    model, tokenizer = load(where, n_heads=cfg.n_heads if Path(where).is_file() else None)
    own = ModelConfig.of(model.cfg)  # type: ignore[arg-type]
    if (T := cfg.context_length) > own.context_length:
        raise UserError(
            f"{where} knows {own.context_length} positions and context_length={T} asks for more, which nobody taught it; "
            f"set --model.context-length {own.context_length} or less"
        )
    free = {"drop_rate": cfg.drop_rate, "init": cfg.init, "context_length": T}
    if own.bits != 32:
        raise UserError(f"{where} is quantized to {own.bits} bits and cannot be trained; use the model that it was made from")
    if odd := [name for name in own if name not in free and own[name] != cfg[name]]:
        raise UserError(
            f"{where} has {odd[0]}={own[odd[0]]} and the settings {odd[0]}={cfg[odd[0]]}; leave it out, or begin with fresh weights"
        )
    with torch.device("meta"):
        made = build(cfg)
    for name, parameter in model.named_parameters():
        set_parameters(made, {name: parameter.detach()[:T] if name == "pos_emb.weight" else parameter.detach()})
    return made, tokenizer
