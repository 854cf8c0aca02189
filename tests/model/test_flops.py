"""FLOPs counted in the forward pass equal those of both passes, and the formula's.

MFU follows its definition.
"""

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llm_scratch.architectures import ARCHITECTURES, Architecture
from llm_scratch.config import GPTConfig, NanoChatConfig
from llm_scratch.model import build
from llm_scratch.model.delta_rule import CHUNK
from llm_scratch.model.flops import flops_per_token, mfu
from llm_scratch.model.loss import next_token_loss
from llm_scratch.presets import PRESETS, preset

SMALL = GPTConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2)
SIZES = {
    "small": SMALL,
    "tied": GPTConfig(**dict(SMALL, tie_embeddings=True, qkv_bias=True)),
    "another width": GPTConfig(**dict(SMALL, ff_dim=31)),
    "nanochat": NanoChatConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2),
    "one layer, long": GPTConfig(**dict(SMALL, n_layers=1, context_length=64, drop_rate=0.0)),
}


@pytest.mark.parametrize("cfg", SIZES.values(), ids=SIZES)
def test_step_has_the_flops_of_three_forward_passes(cfg):
    model, ids = build(cfg), torch.zeros(3, cfg.context_length, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss(model(ids), ids).backward()
    assert counter.get_total_flops() == flops_per_token(cfg) * ids.numel()


@pytest.mark.parametrize("cfg", SIZES.values(), ids=SIZES)
def test_matrix_has_six_flops_per_parameter_and_attention_twelve_t_c(cfg):
    matrices = sum(
        part.weight.numel() for part in build(cfg).modules() if isinstance(part, torch.nn.Linear)
    )
    assert (
        flops_per_token(cfg) == 6 * matrices + 12 * cfg.n_layers * cfg.context_length * cfg.emb_dim
    )


def weights_of_a_token(model):
    """Elements of the matrices that a token passes, with only the chosen experts."""
    count = 0
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear):
            routed = ".experts." in name
            share = model.cfg.experts_per_token / model.cfg.n_experts if routed else 1
            count += part.weight.numel() * share
    return count


PRODUCTS_WITH_A_TOKEN = {"mla-tiny": 3 * 4 * 2 * (32 + 16), "delta-tiny": 1 * 2 * 128}
"""Elements of keys and values that a query meets for a token, in all layers, where it is not 2 C a
layer: MLA's keys have a rotated part, and its values are padded to their size; only one layer of
Qwen3-Next's attends.
"""
DELTA_RULE = {"delta-tiny": 3 * 3 * 4 * (3 * 2 * CHUNK * 32 + 3 * 2 * 32 * 32)}
"""FLOPs of the delta rule: 3 layers, forward and twice backward, 4 heads; three products of a token
with its chunk (keys, queries, corrections), and three with the memory.
"""


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_six_flops_a_weight_and_the_attention(name):
    """FLOPs are counted on a model without allocated weights."""
    cfg = preset(name).model
    with torch.device("meta"):
        in_matrices = 6 * weights_of_a_token(build(cfg))
    products = PRODUCTS_WITH_A_TOKEN.get(name, cfg.n_layers * 2 * cfg.emb_dim)
    attention = 6 * cfg.context_length * products
    want = in_matrices + attention + DELTA_RULE.get(name, 0)
    assert flops_per_token(cfg) == pytest.approx(want, rel=0.02)


def test_gpt2_small_trains_with_854_million_flops_per_token():
    assert (
        flops_per_token(preset("gpt2-small").model)
        == 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 1024 * 768
        == 854_438_400
    )


def test_model_that_depends_on_values_has_six_flops_a_parameter(monkeypatch):
    class Router(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()
            self.table = torch.nn.Embedding(cfg.vocab_size, cfg.vocab_size)

        def forward(self, ids):
            return self.table(ids) if ids.sum().item() else self.table(ids).flip(0)

    monkeypatch.setitem(ARCHITECTURES, "router", Architecture(GPTConfig, Router))
    cfg = replace(SMALL, architecture="router")
    assert flops_per_token(cfg) == 6 * cfg.n_params


def test_flops_counting_does_not_change_the_random_state():
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    flops_per_token(replace(SMALL, init="gpt2", n_layers=3))
    assert torch.equal(torch.rand(1), want)


def test_mfu_is_one_at_the_measured_rate():
    assert mfu(flops=2e9, tokens_per_second=50, matrix_rate=1e11) == 1.0
    assert mfu(flops=2e9, tokens_per_second=20, matrix_rate=1e11) == 0.4
