"""What a row of docs/proof.md is, and the tools to measure one. The rows: model.py, tokens.py, choosing.py, learning.py, weights.py.

Yours: write a function that computes the same thing in two ways and returns how far they are apart, with `@row(...)` above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

CONFIG = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_heads": 6, "n_layers": 2, "drop_rate": 0.0, "qkv_bias": True}
TEXT = "The naïve café, 12 o'clock:\n\n\tif x == 3: return 'ħ' 你好 \U0001f600  and   so on. " * 5


class NotRun(Exception):
    """Raised by a measurement that this machine cannot do; the message is the reason."""


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
    of: tuple[str, ...] = ()
    """the entries of tables that it proves: "SAMPLERS.top_k"; tests/architecture/test_proof.py wants a row for each"""


ROWS: list[Row] = []


def row(
    part: str, ours: str, reference: str, test: str, most: float = 0.0, of: str = ""
) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Make a function that returns a difference a line of the page; `of`: the entries of tables that it proves, separated by spaces."""

    def add(measure: Callable[[], float]) -> Callable[[], float]:
        ROWS.append(Row(part, ours, reference, test, most, measure, tuple(of.split())))
        return measure

    return add


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors; places where both are infinite are equal."""
    return torch.where(a == b, 0.0, (a - b).abs()).max().item()


def unlike(a: object, b: object) -> float:
    """How many places of two sequences differ, beyond the shorter one included."""
    a, b = list(a), list(b)  # type: ignore[call-overload]
    return float(sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b)))


def gpt2_of_transformers(**changes: object) -> nn.Module:
    """A small GPT2LMHeadModel with random weights, its biases and norms too."""
    import transformers

    shape = {"vocab_size": 97, "n_positions": 32, "n_embd": 24, "n_head": 6, "n_layer": 2, "bos_token_id": 0, "eos_token_id": 0}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    return theirs


def difference(row: Row) -> float:
    """Measure a row, reproducibly.

    Raises:
        AssertionError: the difference is larger than `row.most`.
        NotRun: this machine cannot do the measurement.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(123)
        largest = float(row.measure())
    assert largest <= row.most, f"{row.ours} and {row.reference} are {largest:g} apart, at most {row.most:g} is right"
    return largest


def result(row: Row) -> str:
    """What the page shows of a row: "equal", its largest difference, or "not run" with the reason."""
    try:
        largest = difference(row)
    except NotRun as e:
        return f"not run: {e}"
    return f"{largest:.0e}" if largest else "equal"


def nanochat_of_transformers(model: nn.Module) -> nn.Module:
    """transformers' NanoChat with the weights of a `modern.ModernGPT`, in eval mode."""
    from transformers import NanoChatConfig, NanoChatForCausalLM

    cfg, H = model.cfg, model.cfg.n_heads  # type: ignore[union-attr]
    config = NanoChatConfig(
        vocab_size=cfg.vocab_size, hidden_size=cfg.emb_dim, intermediate_size=4 * cfg.emb_dim, num_hidden_layers=cfg.n_layers,  # type: ignore[union-attr]
        num_attention_heads=H, num_key_value_heads=H, max_position_embeddings=cfg.context_length, final_logit_softcapping=None,  # type: ignore[union-attr]
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip

    def turned(weight: Tensor) -> Tensor:
        """The halves of every head exchanged: NanoChat turns its pairs the other way round."""
        return weight.unflatten(0, (H, 2, -1)).flip(1).reshape(weight.shape)

    names = {"out_proj": "self_attn.o_proj", "W_value": "self_attn.v_proj", "W_query": "self_attn.q_proj", "W_key": "self_attn.k_proj"}
    weights = {"model.embed_tokens.weight": model.tok_emb.weight, "lm_head.weight": model.out_head.weight}  # type: ignore[union-attr]
    for i, block in enumerate(model.trf_blocks):  # type: ignore[arg-type]
        for ours, theirs in names.items():
            weight = getattr(block.att, ours).weight
            weights[f"model.layers.{i}.{theirs}.weight"] = turned(weight) if ours in ("W_query", "W_key") else weight
        weights |= {f"model.layers.{i}.mlp.fc1.weight": block.widen.weight, f"model.layers.{i}.mlp.fc2.weight": block.narrow.weight}
    theirs = NanoChatForCausalLM(config).eval()
    theirs.load_state_dict(weights)
    return theirs
