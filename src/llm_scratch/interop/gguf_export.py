"""Export a model to a GGUF file, for llama.cpp and ollama: written, read back, compared, renamed.

The `gguf` package writes the file and quantizes; our own reader reads it back, so that two
implementations must agree. The Modelfile next to it tells ollama how to run it.
Tests: tests/interop/test_gguf_export.py, tests/reliability/test_f10_round_trip.py.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from llm_scratch.errors import CHECKPOINT, UserError
from llm_scratch.extras import install_command
from llm_scratch.interop.gguf import GGUF_FAMILIES, load_gguf
from llm_scratch.interop.gguf_family import EXTRA_PREFIX, GGUFFamily
from llm_scratch.interop.gguf_file import GGUFFile
from llm_scratch.interop.gguf_tokenizer import exportable, tokenizer_metadata
from llm_scratch.interop.hf_compare import logits_differ
from llm_scratch.interop.hf_export import N_TEXTS, sample_texts
from llm_scratch.interop.weight_map import check_unquantized, expand, named_tensors
from llm_scratch.model import LanguageModel
from llm_scratch.storage import files
from llm_scratch.tokenizers import LibraryTokenizer, Tokenizer
from llm_scratch.tokenizers.bpe import ByteBPE

GGUFFormat = Literal["f32", "f16", "q8_0", "q4_0"]
BLOCK = 32  # weights that share a scale in q8_0 and q4_0


class Format(NamedTuple):
    """A number format of the matrices in a file; all else is stored as float32."""

    file_type: int
    """llama.cpp's number of it, `llama_ftype`"""
    step: float
    """largest error of a weight, relative to the largest weight of its block"""
    logits: float
    """largest difference of logits that is accepted, relative to the largest"""


FORMATS: dict[GGUFFormat, Format] = {
    "f32": Format(0, 0.0, 1e-5),
    "f16": Format(1, 2**-11, 1e-2),
    "q8_0": Format(7, 1 / 254 + 2**-10, 0.1),  # half a step of amax / 127, and a float16 scale
    "q4_0": Format(2, 1 / 8 + 2**-10, 1.0),  # steps of amax / 8; the end that lacks one is cut off
}


class CheckedGGUF(NamedTuple):
    """What was compared after the file was read back."""

    weight_error: float
    """largest error of a weight, relative to the largest of its block"""
    logits_difference: float
    """of the model that was read, relative to the largest"""
    equal_texts: int
    """number of texts with equal ids"""


def export_gguf(
    model: LanguageModel, tokenizer: Tokenizer, path: str | Path, format: GGUFFormat = "f16"
) -> CheckedGGUF:
    """Export a model and its tokenizer; returns the comparison with the file as it was read back.

    Args:
        model: the model.
        tokenizer: its tokenizer, a byte-level or a SentencePiece BPE.
        path: a new file, usually `NAME.gguf`; the Modelfile is `NAME.Modelfile`.
        format: of the matrices; norms, biases and learned positions are float32.
    Raises:
        UserError: llama.cpp cannot express the model or tokenizer, the model is quantized, the
            `gguf` package is missing, or one of the files exists (code 2); what was read back
            differs (code 4); disk full (code 6).
    """
    path = Path(path)
    modelfile_path = path.with_suffix(".Modelfile")
    for new in (path, modelfile_path):
        if new.exists():
            raise UserError(f"{new} exists; choose another name")
    if find_spec("gguf") is None:
        raise UserError(
            f"export to GGUF needs the gguf package; install it with `{install_command('gguf')}`"
        )
    check_unquantized(model)
    name, family = family_of(model)
    metadata = {
        "general.name": path.stem,
        "general.file_type": FORMATS[format].file_type,
        "general.quantization_version": 2,
        **{
            key if key.startswith(EXTRA_PREFIX) else f"{name}.{key}": value
            for key, value in family.config_to(model.cfg).items()
        },
    }
    vocabulary = exportable(tokenizer)
    metadata |= tokenizer_metadata(vocabulary, model.cfg.vocab_size, model.start_id)
    with files.atomic_file(path) as part:
        write(model, family, part, name, metadata, format)
        checked = compare(model, vocabulary, family, part, format)
    files.atomic_write(modelfile_path, modelfile(path, model, vocabulary))
    return checked


def family_of(model: LanguageModel) -> tuple[str, GGUFFamily]:
    """llama.cpp's name and the family of a model.

    Raises:
        UserError: llama.cpp has no such model (code 2).
    """
    known = []
    for name, family in GGUF_FAMILIES.items():
        if family.architecture == model.cfg.architecture:
            if family.expresses(model.cfg):
                return name, family
            known.append(name)
    problem = (
        f"{' and '.join(known)} of llama.cpp have no such settings"
        if known
        else "architectures that can: "
        + ", ".join(sorted({family.architecture for family in GGUF_FAMILIES.values()}))
    )
    raise UserError(
        f"architecture {model.cfg.architecture!r} cannot be exported to GGUF: {problem}; use"
        " `llm-scratch export hf`"
    )


def tensors(model: LanguageModel, family: GGUFFamily) -> Iterator[tuple[str, Tensor]]:
    """The weights under llama.cpp's names, one at a time; a tied head is not repeated."""
    state = {
        name: tensor.detach().to("cpu", torch.float32)
        for name, tensor in named_tensors(model).items()
    }
    for each in expand(family.rules(model.cfg), model.cfg.n_layers):
        if each.ours[0] in state or (family.has_all_biases and each.ours[0].endswith(".bias")):
            yield each.theirs, each.join(state).contiguous()
    yield from family.computed(model.cfg).items()


def write(
    model: LanguageModel,
    family: GGUFFamily,
    path: Path,
    name: str,
    metadata: Mapping[str, Any],
    format: GGUFFormat,
) -> None:
    """Write a file with the `gguf` package, tensor by tensor."""
    import gguf

    writer = gguf.GGUFWriter(path, name)
    for key, value in metadata.items():
        _add(writer, key, value)
    types = {}
    for tensor_name, tensor in tensors(model, family):
        types[tensor_name] = type_ = gguf.GGMLQuantizationType[
            _format_of(tensor_name, tensor, format).upper()
        ]
        block, size = gguf.GGML_QUANT_SIZES[type_]
        writer.add_tensor_info(
            tensor_name,
            tensor.shape,
            tensor.numpy().dtype,
            tensor.numel() // block * size,
            raw_dtype=type_,
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor_name, tensor in tensors(model, family):
        writer.write_tensor_data(gguf.quantize(tensor.numpy(), types[tensor_name]))
    writer.close()


def _add(writer: Any, key: str, value: Any) -> None:
    """Add a metadata entry in the type that llama.cpp expects."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _format_of(name: str, tensor: Tensor, format: GGUFFormat) -> GGUFFormat:
    """Return the storage format of a tensor.

    Only matrices are stored in fewer bits, but not learned positions, which llama.cpp adds without

    a product.
    """
    if tensor.dim() < 2 or name.startswith("position_embd"):
        return "f32"
    if tensor.shape[-1] % BLOCK and format in ("q8_0", "q4_0"):
        return "f16"  # rows of no whole number of blocks
    return format


def compare(
    model: LanguageModel,
    tokenizer: ByteBPE | LibraryTokenizer,
    family: GGUFFamily,
    path: Path,
    format: GGUFFormat,
) -> CheckedGGUF:
    """Read a file back, and compare weights, logits and ids with the model that was exported.

    Raises:
        UserError: they differ by more than the format explains (code 4).
    """
    file, allowed, largest = GGUFFile(path), FORMATS[format], 0.0
    for name, tensor in tensors(model, family):
        rows = tensor.reshape(-1, BLOCK if tensor.numel() % BLOCK == 0 else tensor.shape[-1])
        error = (file.read(name).reshape(rows.shape) - rows).abs().amax(-1)  # [blocks]
        largest = max(largest, (error / rows.abs().amax(-1).clamp_min(1e-4)).max().item())
        if not largest <= allowed.step:
            raise UserError(
                f"{name} was read back with an error of {largest:.1e} of its largest weight;"
                f" {format} explains {allowed.step:.1e}",
                CHECKPOINT,
            )
    back, back_tokenizer = load_gguf(path)
    difference = logits_differ(model, back.eval())
    if not difference <= allowed.logits:
        raise UserError(
            f"the model that was read back differs: its logits by {difference:.1e} of the largest,"
            f" expected at most {allowed.logits:g} for {format}",
            CHECKPOINT,
        )
    texts = sample_texts(tokenizer, N_TEXTS)
    if isinstance(tokenizer, ByteBPE) and tokenizer.nfc:  # which llama.cpp leaves out
        texts = [unicodedata.normalize("NFC", text) for text in texts]
    for text in texts:
        if tokenizer.encode(text, allowed_special="all") != back_tokenizer.encode(
            text, allowed_special="all"
        ):
            raise UserError(
                f"the tokenizer that was read back differs: other ids for {text[:60]!r}",
                CHECKPOINT,
            )
    return CheckedGGUF(largest, difference, len(texts))


def modelfile(path: Path, model: LanguageModel, tokenizer: ByteBPE | LibraryTokenizer) -> str:
    """The Modelfile with which `ollama create NAME -f FILE` makes a model: plain continuation."""
    lines = [
        f"FROM ./{path.name}",
        'TEMPLATE """{{ .Prompt }}"""',
        f"PARAMETER num_ctx {model.cfg.context_length}",
    ]
    for end in (tokenizer.end_of_text, *tokenizer.other_ends):
        if end in tokenizer.special_tokens:
            stop = json.dumps(end, ensure_ascii=False)  # ollama reads no escapes
            lines.append(f"PARAMETER stop {stop}")
    return "\n".join(lines) + "\n"
