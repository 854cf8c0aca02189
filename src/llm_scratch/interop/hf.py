"""Load models of Hugging Face transformers, and write their config.json.

A folder has config.json (model type and shape), the weights in model.safetensors or in several
files with an index (interop/safetensors.py), and tokenizer.json, or vocab.json and merges.txt. Only
models that compute the same as ours are supported; others are rejected with the setting that
differs. Code in a folder is never executed. `HF_FAMILIES` has what differs between the families.
Tests: tests/interop/test_hf.py (folders that transformers wrote; equal
logits, bit-equal tensors, equal ids, both ways).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_scratch.architectures import ModelConfig
from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.hf_deepseek import DEEPSEEK_V3
from llm_scratch.interop.hf_family import EXTRA_KEY, Family, unsupported
from llm_scratch.interop.hf_gemma import GEMMA2, GEMMA3
from llm_scratch.interop.hf_generation import read_generation_config
from llm_scratch.interop.hf_gpt2 import GPT2
from llm_scratch.interop.hf_gpt_oss import GPT_OSS
from llm_scratch.interop.hf_llama import LLAMA, MISTRAL, SMOLLM3
from llm_scratch.interop.hf_olmo import OLMO2, OLMO3
from llm_scratch.interop.hf_qwen import QWEN2, QWEN3
from llm_scratch.interop.hf_qwen_moe import QWEN3_MOE
from llm_scratch.interop.hf_qwen_next import QWEN3_NEXT
from llm_scratch.interop.hf_tokenizer import read_start_id
from llm_scratch.interop.mxfp4 import DequantizedTensors
from llm_scratch.interop.safetensors import INDEX, SINGLE, TensorFiles, files_of
from llm_scratch.interop.torch_file import unwrapped_names
from llm_scratch.interop.weight_map import Origin, assemble, name_check
from llm_scratch.model import LanguageModel
from llm_scratch.storage.safe_parse import read_json
from llm_scratch.tokenizers import Tokenizer
from llm_scratch.tokenizers.locate import open_tokenizer

HF_FAMILIES: dict[str, Family] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "smollm3": SMOLLM3,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "qwen3_moe": QWEN3_MOE,
    "gpt_oss": GPT_OSS,
    "deepseek_v3": DEEPSEEK_V3,
    "qwen3_next": QWEN3_NEXT,
}
"""model_type in config.json -> family; to add one, `HF_FAMILIES["theirs"] = Family(...)`."""
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def is_folder(path: Path) -> bool:
    """Whether a folder looks like a model of transformers."""
    return (path / "config.json").is_file() and any(
        (path / name).is_file() for name in (SINGLE, INDEX, *PICKLED)
    )


def load_folder(
    folder: str | Path, tokenizer: Tokenizer | None = None
) -> tuple[LanguageModel, Tokenizer]:
    """Load the model and tokenizer of a folder, one tensor at a time to save memory.

    Args:
        folder: the folder.
        tokenizer: used instead of the folder's.
    Raises:
        UserError: missing, damaged or unsupported (code 4; for the tokenizer, code 3).
    """
    folder = Path(folder)
    config = read_json(folder / "config.json", CHECKPOINT)
    cfg = config_of(config, folder / "config.json")
    if (
        not (folder / SINGLE).is_file()
        and any((folder / name).is_file() for name in PICKLED)
        and not (folder / INDEX).is_file()
    ):
        raise UserError(
            f"{folder / PICKLED[0]} is a pickle, which can execute code when it is loaded; download"
            " model.safetensors instead, or convert it with `transformers`:"
            " from_pretrained(...).save_pretrained(...)",
            CHECKPOINT,
        )
    tokenizer = tokenizer or open_tokenizer(folder)
    read_generation_config(folder, tokenizer)
    if tokenizer.n_vocab > cfg.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokenizer.n_vocab} tokens, the model {cfg.vocab_size};"
            " use the model's own",
            CHECKPOINT,
        )
    model = load_weights(cfg, files_of(folder), folder, "config.json")
    start = (config.get(EXTRA_KEY) or {}).get("start_id", read_start_id(folder))
    model.start_id = start if type(start) is int and 0 <= start < cfg.vocab_size else None
    return model, tokenizer


def load_weights(
    cfg: ModelConfig, files: Sequence[Path], where: Path, config_file: str
) -> LanguageModel:
    """Load a model from safetensors files with transformers' names.

    Args:
        cfg: the model's settings.
        files: the safetensors files.
        where: the folder, for errors.
        config_file: the source of `cfg`, for errors.
    Raises:
        UserError: a file is missing, damaged,
            or does not match `cfg` (code 4); names file and tensor.
    """
    _, family = family_of(cfg)
    rules = list(family.rules_of(cfg))
    is_named = name_check(rules, cfg.n_layers)
    source = TensorFiles(files)
    plain = unwrapped_names(source.tensors, where)
    source.tensors = {
        plain[name]: entry
        for name, entry in source.tensors.items()
        if is_named(plain[name]) or not family.ignored.fullmatch(plain[name])
    }
    prefix = family.prefix
    if not any(name.startswith(prefix) for name in source.tensors):
        rules = [rule._replace(theirs=rule.theirs.removeprefix(prefix)) for rule in rules]
        prefix = ""
    for name, entry in source.tensors.items():
        if prefix and prefix + name in source.tensors:
            raise UserError(
                f"{entry.file}: {name} occurs twice, with and without the prefix {prefix}",
                CHECKPOINT,
            )
    read = DequantizedTensors(source) if family.reads_mxfp4 else source
    return assemble(cfg, read, rules, Origin(where, config_file))


def config_of(config: Mapping[str, Any], path: Path) -> ModelConfig:
    """Convert the settings of a model of transformers.

    Raises:
        UserError: another model type, or an unsupported setting; names it (code 4).
    """
    family = HF_FAMILIES.get(str(config.get("model_type")))
    if family is None:
        raise unsupported(
            config,
            path,
            "model_type",
            f"one of {', '.join(HF_FAMILIES)}, the supported types",
        )
    cfg = family.config_from({**family.defaults, **config}, path)
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if quantization and not (family.reads_mxfp4 and method == "mxfp4"):
        supported = "unquantized weights or MXFP4" if family.reads_mxfp4 else "unquantized weights"
        raise unsupported(
            config, path, "quantization_config", f"none: {supported}; download such weights"
        )
    return cfg


def to_config(cfg: ModelConfig, start_id: int | None, eot: int | None) -> dict[str, Any]:
    """Make the config.json of one of our models.

    Args:
        cfg: its settings.
        start_id: the token before each text, or None.
        eot: the end-of-text token, or None.
    Raises:
        UserError: transformers has no such model (code 2).
    """
    model_type, family = family_of(cfg)
    special = family.config_to(cfg)
    ours = special.pop(EXTRA_KEY, {}) | ({} if start_id is None else {"start_id": start_id})
    return {
        "architectures": [family.class_name],
        "model_type": model_type,
        **special,
        "bos_token_id": eot if start_id is None else start_id,
        "eos_token_id": eot,
        "pad_token_id": None,
        "use_cache": True,
        "dtype": "float32",
        **({EXTRA_KEY: ours} if ours else {}),
    }


def family_of(cfg: ModelConfig) -> tuple[str, Family]:
    """The model type and the family of one of our models.

    Raises:
        UserError: transformers has no such model (code 2).
    """
    own = {
        model_type: family
        for model_type, family in HF_FAMILIES.items()
        if family.architecture == cfg.architecture
    }
    for model_type, family in own.items():
        if family.expresses(cfg):
            return model_type, family
    if own:
        raise UserError(
            f"architecture {cfg.architecture!r}: transformers has no model with all of these"
            f" settings; its {' and '.join(own)} each have a part of them"
        )
    known = ", ".join(dict.fromkeys(family.architecture for family in HF_FAMILIES.values()))
    raise UserError(
        f"architecture {cfg.architecture!r}: transformers has no such model;"
        f" architectures that it has: {known}"
    )
