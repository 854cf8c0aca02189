"""Initial weights have the statistics of GPT-2, or let attention copy, in every family."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from llm_scratch.architectures import (
    DeepSeekConfig,
    GPTConfig,
    LlamaConfig,
    QwenMoEConfig,
    QwenNextConfig,
)
from llm_scratch.config import DataConfig, RunConfig, to_dict
from llm_scratch.loading import load
from llm_scratch.model import build
from llm_scratch.model.grouped_attention import GroupedAttention
from llm_scratch.model.latent_attention import LatentAttention
from llm_scratch.model.rope import Rotary
from llm_scratch.presets import PRESETS, preset
from llm_scratch.storage.checkpoint import save
from llm_scratch.tokenizers import TOKENIZERS, save_tokenizer

SIZES = {"vocab_size": 50, "context_length": 8, "emb_dim": 24, "n_heads": 4, "n_layers": 2}
LATENT = {"latent_dim": 6, "rotated_dim": 2}
COPIES = {
    "gpt": (GPTConfig(**SIZES, drop_rate=0.0), 0.3, 24),
    "llama": (LlamaConfig(**SIZES), 0.3, 24),
    "grouped heads": (LlamaConfig(**SIZES, n_kv_heads=2), 0.6, 12),
    "wide heads": (LlamaConfig(**SIZES, head_dim=10), 0.3, 24),
    "qwen_moe": (QwenMoEConfig(**SIZES, n_kv_heads=1), 1.2, 6),
    "deepseek": (DeepSeekConfig(**SIZES, **LATENT), 1.2, 6),
    "qwen_next": (QwenNextConfig(**SIZES, full_every=1), 0.3, 24),
}
"""Settings, the factor of what is copied, and the dimensions that are: those of keys and values."""


WIDE = {"vocab_size": 500, "emb_dim": 128, "n_heads": 4, "n_layers": 8}


@pytest.mark.parametrize(
    "cfg",
    [
        GPTConfig(**WIDE, qkv_bias=True),
        GPTConfig(**WIDE, qkv_bias=True, tie_embeddings=True),
        LlamaConfig(**WIDE, attention_bias=True, ff_bias=True, n_kv_heads=2),
    ],
)
def test_gpt2_init_has_gpt2s_statistics(cfg):
    torch.manual_seed(0)
    for name, p in build(replace(cfg, init="gpt2")).named_parameters():
        last = name.endswith(("out_proj.weight", "layers.2.weight", "down_proj.weight"))
        if name.endswith(("bias", "shift")):
            assert (p == 0).all(), name
        elif p.ndim == 1:
            assert (p == 1).all(), name
        else:
            std = 0.02 / 16**0.5 if last else 0.02
            assert p.std().item() == pytest.approx(std, rel=0.03), name
            assert abs(p.mean().item()) < 0.001, name


@pytest.mark.parametrize("cfg", [GPTConfig(**SIZES), LlamaConfig(**SIZES)])
def test_gpt2_init_has_the_loss_of_a_uniform_prediction(cfg):
    torch.manual_seed(0)
    spread = build(replace(cfg, init="gpt2")).eval()(torch.arange(8)[None]).softmax(-1)
    assert spread.max() < 2 / SIZES["vocab_size"]


@pytest.mark.parametrize("name", COPIES)
def test_mimetic_init_lets_attention_copy(name):
    """Heads that look at one token add that token itself, a little smaller, to the stream."""
    cfg, factor, rank = COPIES[name]
    torch.manual_seed(0)
    for block in build(replace(cfg, init="mimetic")).trf_blocks:
        copied = added(block.att)  # [C, C]
        torch.testing.assert_close(copied, copied.mT, rtol=0, atol=1e-5)
        torch.testing.assert_close(copied @ copied, factor * copied, rtol=0, atol=1e-5)
        assert copied.trace().item() == pytest.approx(factor * rank, rel=1e-4)


@torch.no_grad()
def added(att: nn.Module) -> torch.Tensor:
    """What the heads of an attention add for each unit vector, if they look at it alone: [C, C].

    The norm of a latent and an output gate are left out.
    """
    att.latent_norm = nn.Identity()
    if isinstance(att, GroupedAttention):
        att.W_gate, att.fusable = None, att.fusable[:3]
    angles = Rotary(2).angles(torch.zeros(1)) if isinstance(att, LatentAttention) else None
    return att(torch.eye(SIZES["emb_dim"])[:, None], angles)[:, 0]


def test_mimetic_init_changes_the_values_and_outputs_of_attention_alone():
    cfg = QwenNextConfig(**SIZES, full_every=2)
    states = []
    for init in ("gpt2", "mimetic"):
        torch.manual_seed(0)
        states.append(build(replace(cfg, init=init)).state_dict())
    plain, mimetic = states
    changed = {name for name in plain if not torch.equal(plain[name], mimetic[name])}
    attention = "trf_blocks.1.att"  # the other layer has a delta rule
    assert changed == {f"{attention}.W_value.weight", f"{attention}.out_proj.weight"}


@pytest.mark.parametrize("cfg", [GPTConfig(**SIZES), LlamaConfig(**SIZES)])
def test_torch_init_keeps_the_weights_of_pytorch(cfg):
    torch.manual_seed(0)
    model = build(replace(cfg, init="torch"))
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    assert layers
    for layer in layers:
        bound = layer.in_features**-0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound


def test_loaded_weights_are_those_of_the_file_whatever_the_init(tmp_path):
    cfg = DeepSeekConfig(**SIZES, **LATENT, init="mimetic")
    trained = build(replace(cfg, init="gpt2"))
    config = to_dict(RunConfig(cfg, DataConfig(tokenizer="chars")))
    tokenizer = TOKENIZERS["chars"](["abc "])
    save(tmp_path, 1, config, trained.state_dict(), {}, {}, partial(save_tokenizer, tokenizer))
    loaded = load(tmp_path)[0]
    assert loaded.cfg == cfg
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-tiny")])
def test_presets_on_stories_can_copy_from_the_start(name):
    assert preset(name).model.init == "mimetic"
