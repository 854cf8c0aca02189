"""Rows of docs/equivalence.md, and tools to measure them.

The rows are in model.py, families.py, tokenizers.py, decoding.py, optimization.py and weights.py.
To add one, write a function that computes the same result with both implementations and returns
the largest difference, decorated with `@row(...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

CONFIG = {
    "vocab_size": 97,
    "context_length": 32,
    "emb_dim": 24,
    "n_heads": 6,
    "n_layers": 2,
    "drop_rate": 0.0,
    "qkv_bias": True,
}
TEXT = "The naïve café, 12 o'clock:\n\n\tif x == 3: return 'ħ' 你好 \U0001f600  and   so on. " * 5


class NotRun(Exception):
    """Raised by a measurement that this machine cannot do; the message is the reason."""


class Row(NamedTuple):
    """A row of the table."""

    component: str
    ours: str
    """path.name inside the package"""
    reference: str
    test: str
    """file::function under tests/"""
    tolerance: float
    """the largest difference allowed"""
    measure: Callable[[], float]
    covers: tuple[str, ...] = ()
    """registry entries that the row covers, such as "SAMPLERS.top_k"; each entry needs a row"""


ROWS: list[Row] = []


def row(
    component: str, ours: str, reference: str, test: str, tolerance: float = 0.0, covers: str = ""
) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Register a function that returns a difference as a row; `covers`: entries of registries."""

    def add(measure: Callable[[], float]) -> Callable[[], float]:
        ROWS.append(
            Row(component, ours, reference, test, tolerance, measure, tuple(covers.split()))
        )
        return measure

    return add


def max_difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two tensors; equal infinities count as 0."""
    return torch.where(a == b, 0.0, (a - b).abs()).max().item()


def count_differences(a: object, b: object) -> float:
    """The number of positions at which two sequences differ; those beyond the shorter one count."""
    a, b = list(a), list(b)  # type: ignore[call-overload]
    return float(sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b)))


def transformers_gpt2(**changes: object) -> nn.Module:
    """A small GPT2LMHeadModel with random weights, including biases and norms."""
    import transformers

    shape = {
        "vocab_size": 97,
        "n_positions": 32,
        "n_embd": 24,
        "n_head": 6,
        "n_layer": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape | changes)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(std=0.2)
    return theirs


def measure_difference(row: Row) -> float:
    """Measure a row, deterministically.

    Raises:
        AssertionError: the difference exceeds the tolerance.
        NotRun: this machine cannot do the measurement.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(123)
        difference = float(row.measure())
    assert difference <= row.tolerance, (
        f"{row.ours} and {row.reference} differ by {difference:g};"
        f" expected at most {row.tolerance:g}"
    )
    return difference


def result(row: Row) -> str:
    """What the page shows of a row: "equal", its largest difference, or "not run" and why."""
    try:
        difference = measure_difference(row)
    except NotRun as e:
        return f"not run: {e}"
    return f"{difference:.0e}" if difference else "equal"


def transformers_nanochat(model: nn.Module) -> nn.Module:
    """transformers' NanoChat with the weights of our NanoChat model, in eval mode."""
    from transformers import NanoChatConfig, NanoChatForCausalLM

    cfg, H = model.cfg, model.cfg.n_heads  # type: ignore[union-attr]
    config = NanoChatConfig(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.emb_dim,
        intermediate_size=4 * cfg.emb_dim,
        num_hidden_layers=cfg.n_layers,  # type: ignore[union-attr]
        num_attention_heads=H,
        num_key_value_heads=H,
        max_position_embeddings=cfg.context_length,
        final_logit_softcapping=None,  # type: ignore[union-attr]
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )

    def swap_halves(weight: Tensor) -> Tensor:
        """Exchange the halves of every head: transformers' NanoChat rotates the other way."""
        return weight.unflatten(0, (H, 2, -1)).flip(1).reshape(weight.shape)

    names = {
        "out_proj": "self_attn.o_proj",
        "W_value": "self_attn.v_proj",
        "W_query": "self_attn.q_proj",
        "W_key": "self_attn.k_proj",
    }
    weights = {
        "model.embed_tokens.weight": model.tok_emb.weight,
        "lm_head.weight": model.out_head.weight,
    }  # type: ignore[union-attr]
    for i, block in enumerate(model.trf_blocks):  # type: ignore[arg-type]
        for ours, theirs in names.items():
            weight = getattr(block.att, ours).weight
            weights[f"model.layers.{i}.{theirs}.weight"] = (
                swap_halves(weight) if ours in ("W_query", "W_key") else weight
            )
        weights |= {
            f"model.layers.{i}.mlp.fc1.weight": block.up_proj.weight,
            f"model.layers.{i}.mlp.fc2.weight": block.down_proj.weight,
        }
    theirs = NanoChatForCausalLM(config).eval()
    theirs.load_state_dict(weights)
    return theirs
