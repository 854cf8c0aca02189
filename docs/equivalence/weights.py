"""Weights of other programs, in and out: rows of docs/equivalence.md."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from equivalence import CONFIG, TEXT, count_differences, max_difference, row, transformers_gpt2
from llm_scratch.interop import (
    crc32c,
    hf_compare,
    hf_export,
    litgpt,
    nanogpt,
    openai,
    openai_export,
    safetensors,
    tensorflow,
)
from llm_scratch.loading import Options, read
from llm_scratch.model import build
from llm_scratch.model.gpt import GPTModel
from llm_scratch.storage.safetensors_writer import iter_bytes
from llm_scratch.tokenizers import CharTokenizer
from llm_scratch.tokenizers.bpe import ByteBPE

# what TensorFlow wrote
TINY = Path(__file__).resolve().parents[2] / "tests" / "interop" / "tiny_gpt2"


@row(
    "TensorFlow's format, read",
    "interop/tensorflow.TFCheckpointReader",
    "the arrays TensorFlow wrote: bytes that differ",
    "interop/test_tensorflow.py::test_tensorflow_reader_equals_tensorflow",
)
def _tensorflow_read() -> float:
    file, want = tensorflow.TFCheckpointReader(TINY / "model.ckpt"), np.load(TINY / "expected.npz")
    return sum(
        count_differences(file.read(name).tobytes(), want[name].tobytes()) for name in want.files
    )


@row(
    "OpenAI's release, read and written",
    "interop/openai_export.save_gpt2",
    "TensorFlow's files: bytes that differ",
    "interop/test_openai_export.py::test_release_read_and_written_gives_the_same_files",
)
def _release_written() -> float:
    with tempfile.TemporaryDirectory() as folder:
        openai_export.save_gpt2(*openai.load_gpt2(TINY), folder)
        return sum(
            count_differences(path.read_bytes(), (TINY / path.name).read_bytes())
            for path in Path(folder).iterdir()
        )


@row(
    "CRC-32C",
    "interop/crc32c.crc32c",
    "the rule, bit by bit",
    "interop/test_crc32c.py::test_crc32c_equals_bitwise_definition",
)
def _checksum() -> float:
    data = TEXT.encode()
    return float(
        sum(crc32c.crc32c(data[:n]) != crc32c.crc32c_by_bits(data[:n]) for n in (0, 1, 7, 64, 300))
    )


@row(
    "safetensors, written",
    "storage/safetensors_writer.iter_bytes",
    "the safetensors library: bytes that differ",
    "storage/test_safetensors_writer.py::test_safetensors_writer_equals_the_library",
)
def _safetensors_written() -> float:
    import safetensors.torch

    tensors = {"b": torch.randn(3, 4), "a": torch.arange(5), "c": torch.randn(2).bfloat16()}
    return count_differences(b"".join(iter_bytes(tensors)), safetensors.torch.save(tensors))


@row(
    "safetensors, read",
    "interop/safetensors.TensorFiles",
    "the safetensors library",
    "interop/test_safetensors.py::test_safetensors_reader_equals_the_library",
)
def _safetensors_read() -> float:
    from safetensors.torch import save_file

    tensors = {"b": torch.randn(3, 4), "c": torch.randn(2, 2)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, path := Path(folder) / "x.safetensors")
        files = safetensors.TensorFiles([path])
        return max(max_difference(files.read(name), tensor) for name, tensor in tensors.items())


@row(
    "the notebooks' .pth, read",
    "interop/notebook.weights_of",
    "the model that was saved",
    "interop/test_notebook.py::test_next_step_after_import_equals_the_notebooks",
)
def _notebooks() -> float:
    model, ids = GPTModel(CONFIG).eval(), torch.randint(0, 97, (2, 32))
    with tempfile.TemporaryDirectory() as folder:
        torch.save(
            model.state_dict() | {"trf_blocks.0.att.mask": torch.ones(32, 32).triu(1)},
            path := Path(folder) / "model.pth",
        )
        back = read(path, Options(CharTokenizer("abc"), 6)).model.eval()
    return max_difference(back(ids), model(ids))


def weights_as_linear(theirs: nn.Module) -> dict[str, Tensor]:
    """The weights of transformers' GPT-2, matrices as in nn.Linear, nanoGPT and litgpt."""
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        name: tensor.T.contiguous() if name.endswith(turned) else tensor
        for name, tensor in theirs.state_dict().items()
    }


@row(
    "nanoGPT's ckpt.pt, read",
    "interop/nanogpt.load_nanogpt",
    "transformers' GPT2LMHeadModel with gelu",
    "interop/test_import.py::test_nanogpt_checkpoint_loads_as_the_same_model",
    1e-4,
)
def _nanogpt() -> float:
    theirs, ids = transformers_gpt2(activation_function="gelu"), torch.randint(0, 97, (2, 32))
    args = {
        "n_layer": 2,
        "n_head": 6,
        "n_embd": 24,
        "block_size": 32,
        "bias": True,
        "vocab_size": 97,
        "dropout": 0.0,
    }
    ours = nanogpt.load_nanogpt(
        {"model": weights_as_linear(theirs), "model_args": args}, Path("ckpt.pt")
    ).eval()
    return max_difference(ours(ids), theirs(ids).logits)


LITGPT = {
    "h.": "h.",
    "ln_1": "norm_1",
    "ln_2": "norm_2",
    "attn.c_attn": "attn.qkv",
    "attn.c_proj": "attn.proj",
    "mlp.c_": "mlp.",
}
"""Parts of nanoGPT's names -> litgpt's."""


@row(
    "litgpt's folder, read",
    "interop/litgpt.load_litgpt",
    "transformers' GPT2LMHeadModel without positions",
    "interop/test_import.py::test_litgpt_without_rotary_loads_as_the_same_model",
    1e-4,
)
def _litgpt() -> float:
    theirs, ids = transformers_gpt2(activation_function="gelu"), torch.randint(0, 97, (2, 32))
    theirs.get_parameter("transformer.wpe.weight").zero_()  # litgpt has no table of positions
    state = weights_as_linear(theirs)
    state.pop("transformer.wpe.weight")
    for old, new in LITGPT.items():
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    settings = (
        "{vocab_size: 97, padded_vocab_size: 97, block_size: 32, n_embd: 24, n_head: 6, n_layer: 2,"
        " rotary_percentage: 0, parallel_residual: false}"
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "lit_model.pth")
        (Path(folder) / "model_config.yaml").write_text(settings)
        return max_difference(litgpt.load_litgpt(Path(folder)).eval()(ids), theirs(ids).logits)


@row(
    "export to transformers, logits",
    "interop/hf_export.export_hf",
    "transformers' GPT2LMHeadModel, as a share of the largest",
    "interop/test_hf_export.py::test_exported_model_equals_transformers_model",
    1e-5,
)
def _exported() -> float:
    return exported()[0]


@row(
    "export to transformers, ids",
    "interop/hf_export.export_hf",
    "transformers' AutoTokenizer: texts that differ",
    "interop/test_hf_export.py::test_exported_tokenizer_gives_equal_ids_and_texts",
)
def _exported_ids() -> float:
    return exported()[1]


def exported() -> tuple[float, float]:
    """Export a model and its tokenizer to transformers; the difference of logits, and of ids."""
    import transformers

    tokenizer = ByteBPE.train([TEXT], 290)
    model = build(CONFIG | {"vocab_size": 290}).eval()
    with tempfile.TemporaryDirectory() as folder:
        hf_export.write(model, tokenizer, Path(folder) / "out")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/out").eval()
        their_tokenizer = transformers.AutoTokenizer.from_pretrained(f"{folder}/out")
    texts = hf_export.sample_texts(tokenizer, 100)
    wrong = count_differences(
        [tokenizer.encode(text, allowed_special="all") for text in texts],
        their_tokenizer(texts, verbose=False)["input_ids"],
    )
    return hf_compare.logits_differ(model, theirs), wrong
