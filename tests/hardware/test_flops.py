"""The FLOPs formula equals torch's count, operation by operation; MFU equals its definition."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from llm_scratch.config import ModelConfig
from llm_scratch.hardware.flops import flops_per_token, mfu
from llm_scratch.model import build
from llm_scratch.model.loss import next_token_loss
from llm_scratch.presets import PRESETS, preset

SMALL = ModelConfig(vocab_size=50, context_length=12, emb_dim=24, n_heads=3, n_layers=2)
SIZES = {
    "small": SMALL,
    "tied": ModelConfig(**dict(SMALL, tie_embeddings=True, qkv_bias=True)),
    "one layer, long": ModelConfig(**dict(SMALL, n_layers=1, context_length=64, drop_rate=0.0)),
}


@pytest.mark.parametrize("cfg", SIZES.values(), ids=SIZES)
def test_flops_formula_equals_torchs_count(cfg):
    model, ids = build(cfg), torch.zeros(3, cfg.context_length, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss(model(ids), ids).backward()
    assert counter.get_total_flops() == flops_per_token(model) * ids.numel()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_six_flops_a_weight_and_the_attention(name):
    """No weights are needed to count them: the model is built without memory."""
    cfg = preset(name).model
    with torch.device("meta"):
        flops = flops_per_token(build(cfg))
    tables = cfg.vocab_size * cfg.emb_dim * (not cfg.tie_embeddings) + cfg.context_length * cfg.emb_dim
    in_matrices = 6 * (cfg.n_params - tables)  # but for norms and biases
    attention = 12 * cfg.n_layers * cfg.context_length * cfg.emb_dim
    assert flops == pytest.approx(in_matrices + attention, rel=0.02)


def test_gpt2_small_learns_at_854_million_flops_a_token():
    with torch.device("meta"):
        model = build(preset("gpt2-small").model)
    assert flops_per_token(model) == 6 * (12 * 12 * 768**2 + 50257 * 768) + 12 * 12 * 1024 * 768 == 854_438_400


def test_mfu_is_one_when_nothing_is_lost():
    assert mfu(flops=2e9, tokens_per_second=50, matrix_rate=1e11) == 1.0
    assert mfu(flops=2e9, tokens_per_second=20, matrix_rate=1e11) == 0.4
