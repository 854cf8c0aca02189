"""Models of every family with random weights, and a family from outside the package."""

import pytest
import torch
from torch import nn

from llm_scratch.architectures import (
    GemmaConfig,
    GPTConfig,
    LlamaConfig,
    NanoChatConfig,
    OlmoConfig,
)
from llm_scratch.model import build
from llm_scratch.model.attention import MultiHeadAttention
from llm_scratch.model.layers import FeedForward, LayerNorm

SHAPE = {"vocab_size": 19, "context_length": 16, "emb_dim": 12, "n_heads": 3, "n_layers": 2}
CFG = GPTConfig(**SHAPE)
MODERN = {"n_kv_heads": 1, "head_dim": 4, "ff_dim": 48}
CONFIGS = {
    "gpt": CFG,
    "gpt-exact-gelu": GPTConfig(**SHAPE, activation="gelu"),
    "nanochat": NanoChatConfig(**SHAPE),
    "llama": LlamaConfig(**SHAPE, **MODERN),
    "olmo": OlmoConfig(**SHAPE, **MODERN),
    "gemma 2": GemmaConfig(**SHAPE, **MODERN, qk_norm=False, attention_softcap=2.0),
}


class Outside(nn.Module):
    """A custom family: the package's module names, other norms, no position embedding."""

    def __init__(self, cfg):
        super().__init__()
        self.cfg = cfg
        self.tok_emb = nn.Embedding(cfg.vocab_size, cfg.emb_dim)
        self.trf_blocks = nn.ModuleList(OutsideBlock(cfg, layer) for layer in range(cfg.n_layers))
        self.final_norm = nn.RMSNorm(cfg.emb_dim)
        self.out_head = nn.Linear(cfg.emb_dim, cfg.vocab_size)

    def forward(self, ids):
        x = self.tok_emb(ids)
        for block in self.trf_blocks:
            x = block(x)
        return self.out_head(self.final_norm(x))


class OutsideBlock(nn.Module):
    def __init__(self, cfg, layer):
        super().__init__()
        self.att = MultiHeadAttention(cfg.emb_dim, cfg.emb_dim, 16, 0.0, cfg.n_heads, layer=layer)
        self.ff = FeedForward(cfg)
        self.before_att, self.before_ff = LayerNorm(cfg.emb_dim), LayerNorm(cfg.emb_dim)

    def forward(self, x):
        x = x + self.att(self.before_att(x))
        return x + self.ff(self.before_ff(x))


def make(kind):
    """Return a model with all weights random, since "nanochat" starts with zeros."""
    torch.manual_seed(0)
    model = Outside(CFG) if kind == "outside" else build(CONFIGS[kind])
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(params=[*CONFIGS, "outside"])
def model(request):
    return make(request.param)


@pytest.fixture
def gpt():
    return make("gpt")


@pytest.fixture
def modern():
    return make("nanochat")


@pytest.fixture
def ids():
    return torch.randint(0, CFG.vocab_size, (2, 7), generator=torch.Generator().manual_seed(1))
