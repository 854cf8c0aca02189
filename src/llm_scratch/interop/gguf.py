"""Load models from GGUF files, the format of llama.cpp and ollama.

Quantized weights are read as float32: the model computes with exactly the values that llama.cpp
would compute with. `GGUF_FAMILIES` has what differs between the architectures.
Tests: tests/interop/test_gguf.py (logits and ids equal to llama.cpp's), tests/reliability/.
"""

from __future__ import annotations

from pathlib import Path

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.interop.gguf_family import GGUFFamily, GGUFSettings
from llm_scratch.interop.gguf_file import MAGIC, GGUFFile
from llm_scratch.interop.gguf_gemma import GEMMA2, GEMMA3
from llm_scratch.interop.gguf_gpt2 import GPT2
from llm_scratch.interop.gguf_llama import LLAMA
from llm_scratch.interop.gguf_qwen import QWEN2, QWEN3
from llm_scratch.interop.gguf_tokenizer import start_id_from, tokenizer_from
from llm_scratch.interop.weight_map import Origin, assemble
from llm_scratch.model import LanguageModel
from llm_scratch.tokenizers import Tokenizer

GGUF_FAMILIES: dict[str, GGUFFamily] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
}
"""general.architecture -> family; to add one, `GGUF_FAMILIES["theirs"] = GGUFFamily(...)`."""


def is_gguf(path: Path) -> bool:
    """Whether a file is in this format, by its content or its name."""
    if not path.is_file():
        return False
    if path.suffix == ".gguf":
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def load_gguf(
    path: str | Path, tokenizer: Tokenizer | None = None
) -> tuple[LanguageModel, Tokenizer]:
    """Load the model and tokenizer of a file, one tensor at a time to save memory.

    Args:
        path: the file.
        tokenizer: used instead of the file's.
    Raises:
        UserError: missing, damaged or unsupported (code 4; for the tokenizer, code 3).
    """
    file = GGUFFile(path)
    name = file.metadata.get("general.architecture")
    family = GGUF_FAMILIES.get(str(name))
    if family is None:
        raise UserError(
            f"{path}: general.architecture is {str(name)[:40]!r};"
            f" supported are {', '.join(GGUF_FAMILIES)}",
            CHECKPOINT,
        )
    settings = GGUFSettings(file, str(name))
    cfg = family.config_from(settings)
    computed = family.computed(cfg)  # read by `config_from`
    file.tensors = {name: entry for name, entry in file.tensors.items() if name not in computed}
    tokenizer = tokenizer or tokenizer_from(file)
    if tokenizer.n_vocab > cfg.vocab_size:
        raise UserError(
            f"{path}: the tokenizer has {tokenizer.n_vocab} tokens, the model {cfg.vocab_size};"
            " use the model's own",
            CHECKPOINT,
        )
    model = assemble(cfg, file, family.rules(cfg), Origin(file.path, "its metadata"))
    start = start_id_from(file)
    model.start_id = start if start is not None and 0 <= start < cfg.vocab_size else None
    return model, tokenizer
