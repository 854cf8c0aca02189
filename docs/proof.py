"""Write docs/proof.md: each part beside what it is held to, and the largest difference between the two, measured now.

Run `python docs/proof.py`; it needs the extra `hf`, GPT-2's vocabulary, and half a minute. A row is a function that computes the same thing
in both ways, on small random inputs; the test that its line names asks more. tests/house/test_proof.py runs all rows.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from llm_scratch.config import ModelConfig, TrainConfig
from llm_scratch.files import write_whole
from llm_scratch.generation import penalties, sampling
from llm_scratch.generation.decode import generate
from llm_scratch.interop import crc32c, hf, openai, openai_export, safetensors, tensorflow
from llm_scratch.model.attention import MultiHeadAttention, attention_weights
from llm_scratch.model.gpt import GPTModel
from llm_scratch.model.head_loss import head_loss
from llm_scratch.model.layers import GELU, FeedForward, LayerNorm, gelu, layer_norm
from llm_scratch.model.loss import next_token_loss
from llm_scratch.tensor_file import safetensors_pieces
from llm_scratch.tokenizers import TOKENIZERS
from llm_scratch.tokenizers.bpe import ByteBPE
from llm_scratch.training.optim import Muon, adamw
from llm_scratch.training.schedule import learning_rate

PAGE = Path(__file__).with_name("proof.md")
TINY = Path(__file__).resolve().parents[1] / "tests" / "interop" / "tiny_gpt2"  # what TensorFlow wrote
CONFIG = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_heads": 6, "n_layers": 2, "drop_rate": 0.0, "qkv_bias": True}
TEXT = "The naïve café, 12 o'clock:\n\n\tif x == 3: return 'ħ' 你好 \U0001f600  and   so on. " * 5
HEAD = """# Proof

Every part of this project beside what it is held to, and the largest difference between the two. `equal` means to the last bit, the last
id, the last byte. A test, named at the end of each line, asks the same and more, on every run of `make test`.
Made by `python docs/proof.py`, in float32 on a CPU.

| part | here | held to | largest difference | test |
|---|---|---|---|---|
"""


class Row(NamedTuple):
    """A line of the page."""

    part: str
    ours: str
    """path.name inside the package"""
    reference: str
    test: str
    """file::function under tests/"""
    most: float
    """the difference that is allowed; 0: none"""
    measure: Callable[[], float]


ROWS: list[Row] = []


def row(part: str, ours: str, reference: str, test: str, most: float = 0.0) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Make a function that returns a difference a line of the page."""

    def add(measure: Callable[[], float]) -> Callable[[], float]:
        ROWS.append(Row(part, ours, reference, test, most, measure))
        return measure

    return add


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors; places where both are infinite are equal."""
    return torch.where(a == b, 0.0, (a - b).abs()).max().item()


def unlike(a: object, b: object) -> float:
    """How many places of two sequences differ, beyond the shorter one included."""
    a, b = list(a), list(b)  # type: ignore[call-overload]
    return float(sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b)))


def gpt2_of_transformers() -> nn.Module:
    """A small GPT2LMHeadModel with random weights, its biases and norms too."""
    import transformers

    shape = {"vocab_size": 97, "n_positions": 32, "n_embd": 24, "n_head": 6, "n_layer": 2, "bos_token_id": 0, "eos_token_id": 0}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    return theirs


# Model


@row("attention", "model/attention.MultiHeadAttention", "its formula", "model/test_attention.py::test_kernel_equals_formula", 1e-5)
def _attention() -> float:
    x, att = torch.randn(2, 7, 24), MultiHeadAttention(24, 24, 8, 0.0, 6)
    q, k, v = (part(x).view(2, 7, 6, 4).transpose(1, 2) for part in (att.W_query, att.W_key, att.W_value))
    return apart(att(x), att.out_proj((attention_weights(q, k) @ v).transpose(1, 2).reshape(2, 7, 24)))


@row(
    "attention", "model/attention.MultiHeadAttention", "torch.nn.MultiheadAttention",
    "model/test_attention.py::test_equals_torch_multihead_attention", 1e-5,
)  # fmt: skip
def _attention_of_torch() -> float:
    x, att, theirs = torch.randn(2, 7, 24), MultiHeadAttention(24, 24, 8, 0.0, 6), nn.MultiheadAttention(24, 6, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([att.W_query.weight, att.W_key.weight, att.W_value.weight]))
        theirs.in_proj_bias.zero_()
    theirs.out_proj = att.out_proj
    return apart(att(x), theirs(x, x, x, attn_mask=torch.ones(7, 7).triu(1).bool(), need_weights=False)[0])


@row("layer norm", "model/layers.LayerNorm", "its formula", "model/test_layers.py::test_layer_norm_equals_its_formula", 1e-5)
def _norm() -> float:
    x, part = 3 * torch.randn(5, 24) + 1, LayerNorm(24)
    nn.init.normal_(part.scale)
    return apart(part(x), layer_norm(x, part.scale, part.shift))


@row(
    "GELU", "model/layers.GELU", "transformers' NewGELUActivation",
    "model/test_layers.py::test_gelu_equals_its_formula_and_transformers", 1e-5,
)  # fmt: skip
def _bend() -> float:
    from transformers.activations import NewGELUActivation

    return apart(GELU()(x := 3 * torch.randn(1000)), NewGELUActivation()(x))


@row(
    "feed-forward", "model/layers.FeedForward", "its formula",
    "model/test_layers.py::test_feed_forward_widens_four_times_and_bends_once", 1e-5,
)  # fmt: skip
def _feed_forward() -> float:
    part, x = FeedForward({"emb_dim": 24}), torch.randn(5, 24)
    widen, _, narrow = part.layers
    return apart(part(x), gelu(x @ widen.weight.T + widen.bias) @ narrow.weight.T + narrow.bias)


@row(
    "model, and its weights in and out", "interop/hf.load_weights", "transformers' GPT2LMHeadModel, saved by it",
    "interop/test_hf.py::test_what_transformers_wrote_is_the_same_model_here", 1e-4,
)  # fmt: skip
def _model() -> float:
    theirs = gpt2_of_transformers()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)  # type: ignore[operator]
        file = Path(folder) / "model.safetensors"
        ours = hf.load_weights(ModelConfig.of(CONFIG | {"tie_embeddings": True}), [file], file, "config.json").eval()
    ids = torch.randint(0, 97, (2, 32))
    return apart(ours(ids), theirs(ids).logits)


@row("cache", "model/cache.KVCache", "the model without it", "model/test_gpt.py::test_cache_in_any_pieces_equals_without", 1e-5)
def _cached() -> float:
    ours, ids = GPTModel(CONFIG).eval(), torch.randint(0, 97, (2, 11))
    cache = ours.new_cache(2)
    return apart(torch.cat([ours(piece, cache) for piece in ids.split([4, 1, 1, 5], 1)], 1), ours(ids))


@row("size", "config.ModelConfig.n_params", "counted", "model/test_gpt.py::test_n_params_by_the_formula_is_the_number_counted")
def _size() -> float:
    return abs(ModelConfig.of(CONFIG).n_params - sum(p.numel() for p in GPTModel(CONFIG).parameters()))


@row("loss", "model/loss.next_token_loss", "its formula", "model/test_loss.py::test_equals_the_formula", 1e-5)
def _loss() -> float:
    logits, targets = torch.randn(2, 7, 97), torch.randint(0, 97, (2, 7))
    return apart(next_token_loss(logits, targets), -logits.softmax(-1).gather(-1, targets[..., None]).log().mean())


@row(
    "head and loss in one, its gradient", "model/head_loss.head_loss", "the plain way",
    "model/test_head_loss.py::test_value_and_gradients_are_the_plain_ones", 1e-4,
)  # fmt: skip
def _head() -> float:
    x, weight, targets = torch.randn(2, 7, 24), torch.randn(97, 24), torch.randint(0, 97, (2, 7))
    slopes = []
    for way in (head_loss, lambda x, w, targets: next_token_loss(x @ w.T, targets, "sum")):
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        with torch.enable_grad():
            slopes.append(torch.autograd.grad(way(x, weight, targets), (x, weight)))
    return max(apart(a, b) for a, b in zip(*slopes))


# Tokenizer


@row(
    "tokenizer", "tokenizers/bpe.ByteBPE.encode_python", "tiktoken: ids that differ",
    "tokenizers/test_bpe.py::test_T2_ids_of_ten_thousand_texts_equal_tiktoken",
)  # fmt: skip
def _ids_of_tiktoken() -> float:
    theirs = TOKENIZERS["gpt2"]([], None)
    return unlike(ByteBPE.from_tiktoken(theirs).encode_python(TEXT), theirs.encode(TEXT))


@row(
    "tokenizer", "tokenizers/bpe.ByteBPE.decode_bytes", "the text: bytes that differ", "tokenizers/test_bpe.py::test_T1_any_text_comes_back"
)
def _there_and_back() -> float:
    ours = ByteBPE.train([TEXT], 300)
    return unlike(ours.decode_bytes(ours.encode(TEXT)), TEXT.encode())


# Sampler


def against_transformers(name: str, warper: str, value: float) -> None:
    """A row for a sampler that transformers has too."""

    def measure() -> float:
        from transformers.generation import logits_process

        logits = 3 * torch.randn(5, 311)
        return apart(sampling.SAMPLERS[name](logits, value), getattr(logits_process, warper)(value)(None, logits))

    test = f"generation/test_sampling.py::test_{name}_equals_transformers"
    row(name.replace("_", "-"), f"generation/sampling.{name}", f"transformers' {warper}", test)(measure)


against_transformers("temperature", "TemperatureLogitsWarper", 0.7)
against_transformers("top_k", "TopKLogitsWarper", 50)
against_transformers("top_p", "TopPLogitsWarper", 0.9)
against_transformers("min_p", "MinPLogitsWarper", 0.1)
against_transformers("typical_p", "TypicalLogitsWarper", 0.9)
against_transformers("eta_cutoff", "EtaLogitsWarper", 0.01)


@row(
    "repetition penalty", "generation/penalties.repetition_penalty", "transformers' RepetitionPenaltyLogitsProcessor",
    "generation/test_penalties.py::test_repetition_penalty_equals_transformers",
)  # fmt: skip
def _repetition() -> float:
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    logits, ids = 3 * torch.randn(3, 97), torch.randint(0, 97, (3, 20))
    return apart(penalties.repetition_penalty(logits, 1.3, ids), RepetitionPenaltyLogitsProcessor(1.3)(ids, logits))


@row(
    "greedy text",
    "generation/decode.generate",
    "the plain loop: ids that differ",
    "generation/test_decode.py::test_greedy_ids_equal_the_plain_loop",
)
def _greedy() -> float:
    ours, ids = GPTModel(CONFIG).eval(), torch.randint(0, 97, (1, 4))
    plain = ids
    for _ in range(20):
        plain = torch.cat([plain, ours(plain)[:, -1].argmax(-1, keepdim=True)], 1)
    return unlike(generate(ours, ids, 20, 32)[0].tolist(), plain[0].tolist())


# Optimizer


def after_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Where five steps along the same random gradients lead."""
    chance = torch.Generator().manual_seed(1)
    for _ in range(5):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=chance)
        optimizer.step()
    return [p.detach() for p in parameters]


@row("AdamW, decay on matrices alone", "training/optim.adamw", "its formula", "training/test_optim.py::test_adamw_equals_its_formula", 1e-5)
def _adam() -> float:
    ours = nn.Linear(8, 5)
    mine = [p.detach().clone() for p in ours.parameters()]
    moved, chance = after_steps(adamw(ours, TrainConfig(lr=1e-2, weight_decay=0.1, betas=(0.9, 0.95))), list(ours.parameters())), 1
    generator, mean, square = torch.Generator().manual_seed(chance), [0 * w for w in mine], [0 * w for w in mine]
    for t in range(1, 6):
        for i, w in enumerate(mine):
            g = torch.randn(w.shape, generator=generator)
            mean[i], square[i] = 0.9 * mean[i] + 0.1 * g, 0.95 * square[i] + 0.05 * g**2
            step = mean[i] / (1 - 0.9**t) / ((square[i] / (1 - 0.95**t)).sqrt() + 1e-8)
            mine[i] = w - 1e-2 * (0.1 if w.ndim == 2 else 0) * w - 1e-2 * step
    return max(map(apart, moved, mine))


@row(
    "Muon, for what is no matrix", "training/optim.Muon", "torch.optim.AdamW",
    "training/test_optim.py::test_muons_other_groups_are_torchs_adamw", 1e-5,
)  # fmt: skip
def _muons_adam() -> float:
    ours = nn.Linear(8, 5)
    theirs = copy.deepcopy(ours)
    a = after_steps(Muon([{"params": list(ours.parameters())}], 2e-3, (0.9, 0.95)), list(ours.parameters()))
    b = after_steps(torch.optim.AdamW(theirs.parameters(), 2e-3, (0.9, 0.95), weight_decay=0.0), list(theirs.parameters()))
    return max(map(apart, a, b))


@row("cosine schedule", "training/schedule.learning_rate", "its formula", "training/test_schedule.py::test_cosine_is_half_a_wave", 1e-12)
def _cosine() -> float:
    cfg = TrainConfig(lr=1.0, min_lr=0.1, warmup_steps=0, schedule="cosine")
    return max(abs(learning_rate(t, 50, cfg) - (0.1 + 0.45 * (1 + np.cos(np.pi * t / 50)))) for t in range(51))


# Weights


@row(
    "TensorFlow's format, read", "interop/tensorflow.Checkpoint", "the arrays TensorFlow wrote: bytes that differ",
    "interop/test_tensorflow.py::test_it_equals_what_tensorflow_wrote",
)  # fmt: skip
def _tensorflow_read() -> float:
    file, want = tensorflow.Checkpoint(TINY / "model.ckpt"), np.load(TINY / "expected.npz")
    return sum(unlike(file.read(name).tobytes(), want[name].tobytes()) for name in want.files)


@row(
    "OpenAI's release, read and written", "interop/openai_export.save_gpt2", "TensorFlow's files: bytes that differ",
    "interop/test_openai_export.py::test_a_release_that_is_read_and_written_is_the_same_files",
)  # fmt: skip
def _release_written() -> float:
    with tempfile.TemporaryDirectory() as folder:
        openai_export.save_gpt2(*openai.load_gpt2(TINY), folder)
        return sum(unlike(path.read_bytes(), (TINY / path.name).read_bytes()) for path in Path(folder).iterdir())


@row("CRC-32C", "interop/crc32c.crc32c", "the rule, bit by bit", "interop/test_crc32c.py::test_it_equals_the_loop")
def _checksum() -> float:
    data = TEXT.encode()
    return float(sum(crc32c.crc32c(data[:n]) != crc32c.crc32c_by_bits(data[:n]) for n in (0, 1, 7, 64, 300)))


@row(
    "safetensors, written", "tensor_file.safetensors_pieces", "the safetensors library: bytes that differ",
    "test_tensor_file.py::test_the_bytes_are_the_librarys",
)  # fmt: skip
def _safetensors_written() -> float:
    import safetensors.torch

    tensors = {"b": torch.randn(3, 4), "a": torch.arange(5), "c": torch.randn(2).bfloat16()}
    return unlike(b"".join(safetensors_pieces(tensors)), safetensors.torch.save(tensors))


@row(
    "safetensors, read", "interop/safetensors.TensorFiles", "the safetensors library",
    "interop/test_safetensors.py::test_what_is_read_is_what_the_library_reads",
)  # fmt: skip
def _safetensors_read() -> float:
    from safetensors.torch import save_file

    tensors = {"b": torch.randn(3, 4), "c": torch.randn(2, 2)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, path := Path(folder) / "x.safetensors")
        files = safetensors.TensorFiles([path])
        return max(apart(files.read(name), tensor) for name, tensor in tensors.items())


def difference(row: Row) -> float:
    """Measure a row; the same every time.

    Raises:
        AssertionError: the difference is larger than it may be.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(123)
        found = float(row.measure())
    assert found <= row.most, f"{row.ours} and {row.reference} are {found:g} apart, at most {row.most:g} is right"
    return found


def line(row: Row, found: str) -> str:
    """A row as the page has it."""
    return f"| {row.part} | `{row.ours}` | {row.reference} | {found} | `tests/{row.test}` |"


def main() -> None:
    """Measure all and write the page."""
    lines = [line(row, f"{found:.0e}" if (found := difference(row)) else "equal") for row in ROWS]
    write_whole(PAGE, HEAD + "\n".join(lines) + "\n")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
